"""English phenomena: texts with slots and forks (`data.suites.templates`), and the words for the slots.

The good sentence is right and the bad one wrong in standard English, whatever the reading. Where a form is right in
one text and wrong in another (`turned`), neither its frequency nor its length decides.
"""

from __future__ import annotations

from data.suites.templates import listed, turned

# None is a mass as well, is its own plural (a hunter's "two bear"), is "an", or is made a person of (a doll, who).
_PERSON = listed("""boy girl teacher doctor farmer king queen nurse baker sailor driver singer painter hunter
    soldier student prince princess dancer gardener pirate clown waiter captain wizard shepherd shopkeeper""")
_ANIMAL = listed("""cat dog bird horse cow pig frog monkey hen goat kitten turtle donkey parrot camel panda squirrel
    penguin rooster crow hamster lizard snail spider gorilla""")
_THING = listed("""ball book cup chair hat coat flower basket spoon carpet boat kite drum bell lamp plate bottle
    button pencil blanket pillow ring ladder bucket hammer bag key box brush watch shirt""")
_SPOT = listed("tree house door table chair wall gate bed river lake tent car barn bridge window hill rock fence")
_LIKE = listed("see like want find need draw love remember hold keep")
_SEXES = listed("""boy:girl king:queen father:mother grandfather:grandmother uncle:aunt prince:princess
    brother:sister son:daughter nephew:niece grandson:granddaughter""")
_COMPARED = listed("""taller:tall bigger:big smaller:small older:old younger:young faster:fast slower:slow
    stronger:strong weaker:weak shorter:short cleaner:clean happier:happy louder:loud quieter:quiet thinner:thin
    fatter:fat dirtier:dirty hungrier:hungry sadder:sad kinder:kind""")
_DO = listed(
    """walk to school; play in the garden; visit the {person}; paint the {thing}; clean the {thing}; cook the dinner;
    help the {person}; call the {person}; wash the {animal}; climb the hill; push the {thing}; pull the {thing};
    follow the {animal}; need the {thing}; open the window; look for the {animal}; work in the kitchen""",
    ";",
)
_EAT = listed(
    """eat the {food}; drink the milk; paint the {thing}; wash the {animal}; carry the {thing}; clean the {thing};
    push the {thing}; pull the {thing}; help the {person}; follow the {animal}; feed the {animal}; sing a song;
    draw the {animal}; build a house; cook the dinner; touch the {animal}; call the {person}""",
    ";",
)
_PAST = listed(
    """[ate|eaten] the {food}; [wrote|written] a letter; [took|taken] the {thing}; [drew|drawn] the {animal};
    [threw|thrown] the {thing}; [wore|worn] a new coat; [drove|driven] the car; [grew|grown] some flowers;
    [chose|chosen] a {thing}; [knew|known] the {person}; [tore|torn] the blanket; [flew|flown] the kite""",
    ";",
)
_BASE = listed(
    """[write|wrote] a letter; [drink|drank] the milk; [eat|ate] the {food}; [sing|sang] a song;
    [build|built] a house; [hold|held] the {thing}; [sell|sold] the {thing}; [take|took] the {thing};
    [draw|drew] the {animal}; [throw|threw] the {thing}; [ride|rode] the horse; [drive|drove] the car;
    [wear|wore] a new hat; [buy|bought] the {thing}; [catch|caught] the {animal}; [tell|told] a story;
    [make|made] a cake; [choose|chose] a {thing}; [keep|kept] the {animal}; [steal|stole] the {thing}""",
    ";",
)


def _plural(nouns: list[str]) -> list[str]:
    return [noun + ("es" if noun.endswith(("x", "sh", "ch", "ss")) else "s") for noun in nouns]


def _form(phrases: list[str], form: str) -> list[str]:
    """The phrases with their first word in another form, in which {0} stands for it."""
    parted = [phrase.partition(" ") for phrase in phrases]
    return [form.format(verb) + space + rest for verb, space, rest in parted]


_MALE = [pair.split(":")[0] for pair in _SEXES]
_FEMALE = [pair.split(":")[1] for pair in _SEXES]
_TALLER = ["[{}|{}]".format(*pair.split(":")) for pair in _COMPARED]
_SUBJECT = ["[She|Her]", "[He|Him]", "[They|Them]", "[We|Us]", "[I|Me]"]
_TIME = ["[yesterday|tomorrow]", *(f"[last {when}|next {when}]" for when in listed("week month year Sunday summer"))]
_YOUR = ["[your|yours]", "[our|ours]", "[their|theirs]", "[my|mine]"]

WORDS = {
    "person": _PERSON,
    "persons": _plural(_PERSON),
    "animal": _ANIMAL,
    "animals": _plural(_ANIMAL),
    "thing": _THING,
    "things": _plural(_THING),
    "vowel_thing": listed("apple egg umbrella orange onion arrow envelope airplane oven acorn"),
    "spot": _SPOT,
    "spots": _plural(_SPOT),
    "roof": listed("tree table chair bed bridge tent car barn wagon bench ladder"),
    "male": _MALE,
    "males": _plural(_MALE),
    "female": _FEMALE,
    "females": _plural(_FEMALE),
    "food": listed("apple bread soup egg cheese banana pear pie rice cake potato"),
    "mass": listed("milk water bread rice sand soup sugar salt butter honey juice"),
    "near": ["near", "behind", "beside", "next to", "in front of"],
    "under": ["under", "near", "beside", "next to"],
    "when": ["after lunch", "at night", "before dinner", "after school", "on Sunday", "at noon", "at midnight"],
    "then": ["yesterday", "last night", "last week", "after lunch", "before dinner", "in the garden", "on Sunday"],
    "Before": ["Yesterday", "Last night", "Last week", "Last Sunday", "Last summer", "Long ago"],
    # Not a place, which would say which ones: "he took any keys in the kitchen".
    "ago": ["yesterday", "last night", "last week", "on Sunday", "this morning", "before dinner"],
    "mood": listed("hungry tired happy big small old young angry quiet sad thirsty strong weak cold"),
    "look": listed("big small new red green blue white black brown long round pretty clean dirty heavy"),
    "vowel_look": listed("old ugly empty enormous expensive interesting amazing ordinary unusual orange"),
    "sees": _form(_LIKE, "[{0}s|{0}]"),
    "see": _form(_LIKE, "[{0}|{0}s]"),
    "like": _LIKE,
    "saw": listed("saw liked found followed fed loved remembered washed drew wanted"),
    # None of them goes on with "that books are dear".
    "bought": listed("bought took carried painted cleaned lost dropped hid brought kept washed moved pulled"),
    "got": listed("bought found took brought lost saw"),
    "need": listed("buy find need want bring use carry see"),
    "helped": listed("helped visited followed thanked met pushed hugged chased watched called"),
    "washed": ["looked at", "washed", "hurt", "drew", "laughed at", "dressed"],
    "made": listed("bought made gave drew found brought"),
    "ate": _PAST,
    "eaten": turned(_PAST),
    "write": _BASE,
    "wrote": turned(_BASE),
    "will": ["will", "can", "must", "should", "could", "may"],
    "did": ["did", "will", "can", "should", "must"],
    "Where": ["Where", "When", "Why", "How"],
    "find_it": [f"{verb} the {{thing}}" for verb in listed("find buy move hide clean paint carry")]
    + [f"{verb} the {{animal}}" for verb in listed("wash feed catch help draw")],
    "doing": listed("""eating drinking carrying painting washing cooking building buying watching drawing cleaning
        holding"""),
    "went": _form(_DO, "{0}ed"),
    "go": _form(_DO, "{0}"),
    "eating": _form(_EAT, "[{0}ing|{0}]"),
    "eat": _form(_EAT, "[{0}|{0}ing]"),
    "past": _TIME,
    "future": turned(_TIME),
    "She": _SUBJECT,
    "her": [form.lower().replace("|i]", "|I]") for form in turned(_SUBJECT)],
    "find": listed("find bring need like want"),
    "sleep": listed("sleep arrive laugh cry cough sneeze smile come go listen"),
    "They": ["He", "She", "They"],
    "did_it": [f"[{verb} ~ the {{thing}}]" for verb in listed("painted carried found dropped cleaned")]
    + [f"[{verb} ~ the {{animal}}]" for verb in listed("washed fed followed caught helped")]
    + ["[ate ~ the {food}]", "[drank ~ the milk]", "[wrote ~ the letter]", "[opened ~ the window]"],
    "slept": listed("slept cried coughed sneezed yawned"),
    "seen": [f"{verb} a {{animal}}" for verb in listed("seen touched fed washed followed caught")]
    + [f"{verb} a {{thing}}" for verb in listed("lost painted carried broken stolen")],
    "taller": _TALLER,
    "tall": turned(_TALLER),
    "your": _YOUR,
    "yours": turned(_YOUR),
}

PHENOMENA = {
    "subject_verb_agreement": [
        "The {person} {sees} the {thing}.",
        "The {persons} {see} the {thing}.",
        "The {person} {sees} the {animals}.",
        "The {persons} {see} the {animals}.",
    ],
    "agreement_across_phrase": [
        "The {animal} {near} the {spots} [is|are] {mood}.",
        "The {animals} {near} the {spot} [are|is] {mood}.",
        "The {person} {near} the {spots} [was|were] {mood}.",
        "The {persons} {near} the {spot} [were|was] {mood}.",
    ],
    "agreement_in_questions": [
        "[Does|Do] the {person} {like} the {animal}?",
        "[Do|Does] the {persons} {like} the {animal}?",
        "Why [is|are] the {animal} so {mood}?",
        "Why [are|is] the {animals} so {mood}?",
        "[Is|Are] the {person} {near} the {spot}?",
        "[Are|Is] the {persons} {near} the {spot}?",
    ],
    "determiner_noun_agreement": [
        "The {person} {bought} [this|these] {thing}.",
        "The {person} {bought} [these|this] {things}.",
        "The {person} {bought} [that|those] {thing}.",
        "The {person} {bought} [those|that] {things}.",
    ],
    "quantifier_noun_agreement": [
        "[Every|Many] {person} {saw} the {animal}.",
        "[Many|Every] {persons} {saw} the {animal}.",
        "[Each|Both] {person} {saw} the {animal}.",
        "[Both|Each] {persons} {saw} the {animal}.",
    ],
    "irregular_past": ["The {person} {ate}.", "The {person} has {eaten}."],
    "anaphor_agreement": [
        "The {male} {washed} [himself|herself] {then}.",
        "The {female} {washed} [herself|himself] {then}.",
        "The {male} {made} [himself|themselves] a {thing}.",
        "The {males} {made} [themselves|himself] a {thing}.",
        "The {female} {made} [herself|themselves] a {thing}.",
        "The {females} {made} [themselves|herself] a {thing}.",
    ],
    "pronoun_case": ["{She} {helped} the {animal} {then}.", "The {person} {helped} {her} {then}."],
    "tense_and_time": ["The {person} {went} {past}.", "The {person} will {go} {future}."],
    "a_or_an": [
        "The {person} {bought} [a|an] {look} {thing}.",
        "The {person} {bought} [an|a] {vowel_look} {thing}.",
        "The {person} {got} [a|an] {thing}.",
        "The {person} {got} [an|a] {vowel_thing}.",
    ],
    "argument_structure": [
        "The {person} will [{find}|{sleep}] the {thing}.",
        "The {person} will [{sleep}|{find}] {when}.",
    ],
    "adjective_noun_order": [
        "The [{look} ~ {thing}] is {near} the {spot}.",
        "The [{mood} ~ {animal}] is {near} the {spot}.",
    ],
    "verb_object_order": ["{They} {did_it} {then}."],
    "preposition_order": ["The {animal} {slept} [{under} ~ the {roof}].", "The {thing} is [{under} ~ the {roof}]."],
    "negative_polarity": [
        "[No|A] {person} has ever {seen}.",
        "[No|The] {person} has ever {seen}.",
        "The {person} has [never|ever] {seen}.",
        "[No|The] {person} {got} any {things} {ago}.",
    ],
    "modal_and_base_form": ["The {person} {will} {write}.", "{Before} the {person} {wrote}."],
    "progressive_form": ["The {person} is {eating}.", "The {person} {will} {eat}."],
    "comparative": [
        "The {animal} is {taller} than the {animal}.",
        "The {animal} is as {tall} as the {animal}.",
        "The {person} is {taller} than the {person}.",
        "The {person} is as {tall} as the {person}.",
    ],
    "much_or_many": [
        "The {person} {got} too [many|much] {things}.",
        "The {person} {got} too [much|many] {mass}.",
        "How [many|much] {things} did the {person} {need}?",
        "How [much|many] {mass} did the {person} {need}?",
    ],
    "question_order": ["{Where} [{did} ~ the {person}] {find_it}?", "What [is ~ the {person}] {doing}?"],
    "relative_pronoun": [
        "The {person} [who|which] has the {thing} is {mood}.",
        "The {thing} [which|who] is {near} the {spot} is {look}.",
        "This is the {person} [who|which] {got} a {thing}.",
        "This is the {thing} [which|who] the {person} {got}.",
    ],
    "possessive_pronoun": [
        "This is {your} {thing}.",
        "This {thing} is {yours}.",
        "The {person} {bought} {your} {thing}.",
        "The {look} {thing} is {yours}.",
    ],
}
