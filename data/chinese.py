"""What `data` says, in Chinese."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    "a user's turn without content": ("用户的这一轮没有内容"),
    "also in the evaluation file": ("验证数据里也有"),
    "an answer without content": ("回答没有内容"),
    "bytes that aren't UTF-8": ("有不是 UTF-8 的字节"),
    "What reads it is --stage rl: ppo, grpo and spo": "读它的是 --stage rl：ppo、grpo 和 spo",
    "The stage of agents that call tools is not there yet, but comes": "会调用工具的智能体的阶段还没有，以后会有",
    "a conversation is a list of turns, each an object with role and content": (
        "对话是若干轮的列表，每一轮是带 role 和 content 的对象"
    ),
    (
        "questions for agents that call tools (MiniMind's agent_rl.jsonl) have their right answers in gt, which can't "
        "be read yet; a row for rl is {row}, or a conversation whose last answer is the right one"
    ): (
        "会调用工具的智能体的问题（MiniMind 的 agent_rl.jsonl）把标准答案写在 gt 里，还不能读取；rl 的一行是 {row}，"
        "或者一段对话，最后一个回答是标准答案"
    ),
    "the conversation asks nothing: a turn of the user's must stand before the answer": (
        "对话里没有问题：回答之前要有一轮 user"
    ),
    (
        "{count:,} of {rows:,} rows have no right answer: rewards that compare with one (exact, contains, number) "
        "can't judge them; those that look at the form of an answer can."
    ): (
        "{rows:,} 行中有 {count:,} 行没有正确答案：要与它比较的奖励（exact、contains、number）无法评判；"
        "只看回答形式的奖励可以。"
    ),
    "all labels are the same: nothing to tell good from bad by": ("所有标签都相同：无从分辨好坏"),
    "chosen and rejected answer different prompts": ("chosen 和 rejected 回答的不是同一个提示"),
    "chosen and rejected are the same": ("chosen 和 rejected 相同"),
    "data of answers with labels": ("带标签的回答数据"),
    "conversation data": ("对话数据"),
    "data of questions and exact answers": ("问题与标准答案数据"),
    "fields missing or of another type": ("缺少字段，或字段类型不对"),
    "fields that nothing reads": ("有不会被读取的字段"),
    "longer than max_seq_len, read in pieces, nothing is lost": ("超过 max_seq_len，分段读取，不丢内容"),
    "longer than max_seq_len, the end is lost": ("超过 max_seq_len，结尾会丢掉"),
    "the contrary of a row before": ("与前面某一行的说法相反"),
    "no text at all": ("没有任何文字"),
    "not JSON": ("不是 JSON"),
    "nothing to learn from: no answer, or none before max_seq_len": (
        "没有可学的内容：没有回答，或回答在 max_seq_len 之后"
    ),
    "preference data": ("偏好数据"),
    (
        "Length gives the better answer away: {rule} is right in {decided:.0%} of all cases, where 50% is chance (p = "
        "{p:.1g}; {better:,.0f} characters on average against {worse:,.0f}). A model may learn that and nothing else: "
        "add rows that go the other way, or leave some of these out."
    ): (
        "看长度就能猜出哪个回答更好：{rule}，有 {decided:.0%} 能猜对，而随便猜是 50%（p = {p:.1g}；平均 {better:,.0f} "
        "个字符对 {worse:,.0f} 个）。模型可能只学到这一点：请加入相反的例子，或去掉一部分这样的行。"
    ),
    "better and worse answers": ("较好与较差的回答"),
    (
        "label = {value!r}: write true for a good answer and false for a bad one (1 and 0 are read too); a score is to "
        "become one of them first, and a row without a label is to be left out"
    ): ("label = {value!r}：好的回答写 true，差的写 false（1 和 0 也可以）；评分请先换成其中之一，没有标签的行请去掉"),
    "labels": ("标签"),
    "prompt and completion must be texts or lists of messages": ("prompt 和 completion 必须是文字或消息列表"),
    "taking the longer one": ("总选较长的"),
    "taking the shorter one": ("总选较短的"),
    "the contrary of line {line} of {path}: keep one of them": ("与 {path} 的第 {line} 行说法相反：请只留一个"),
    "the contrary of line {line}: keep one of them": ("与第 {line} 行说法相反：请只留一个"),
    "an answer has weight 0, so of one side nothing is learnt; of a pair both answers are": (
        "有一个回答的 weight 是 0，这一边什么也学不到；成对的两个回答都要学"
    ),
    "the first {limit} tokens (max_seq_len) of both are the same, so nothing tells them apart": (
        "两者的前 {limit} 个词元（max_seq_len）完全相同，看不出区别"
    ),
    (
        "the prompt alone is {count} tokens long, max_seq_len = {limit}: nothing of the answers is read. Shorten it, "
        "or give rows more tokens"
    ): ("光是提示就有 {count} 个词元，max_seq_len = {limit}：回答一个字也读不到。请缩短提示，或加大 max_seq_len"),
    "the prompt is written by a chat template already ({tag}): give its turns as messages, {row}": (
        "提示已经套用了对话模板（{tag}）：请按轮写成消息，{row}"
    ),
    ("turn {number} is {chosen} in chosen and {rejected} in rejected; up to the last question both must be the same"): (
        "第 {number} 轮在 chosen 里是 {chosen}，在 rejected 里是 {rejected}；到最后一个问题为止，两者必须相同"
    ),
    "{better:,.0f} characters on average against {worse:,.0f}; the better one is longer in {longer:.0f} %": (
        "平均 {better:,.0f} 个字符对 {worse:,.0f} 个；{longer:.0f} % 是较好的更长"
    ),
    (
        "{good:,} answers are good and {bad:,} bad: what is rare is hardly learnt. Add some of the rarer ones, or "
        "leave out some of the others."
    ): ("好的回答有 {good:,} 个，差的有 {bad:,} 个：太少的一种几乎学不到。请补充较少的一种，或去掉一部分较多的。"),
    "{good:,} good, {bad:,} bad": ("{good:,} 个好，{bad:,} 个坏"),
    "{count} texts in a list are no messages: write a row for each": (
        "列表里的 {count} 段文字不是消息：请每段写成一行"
    ),
    "{name} is a text, and no prompt says what it answers: write the question beside it, {row}": (
        "{name} 是文字，却没有提示说明它回答什么：请把问题写在旁边，{row}"
    ),
    "rows of another stage": ("属于其他阶段的行"),
    "tags in a text: learnt as letters": ("文本里有标签：会被当作普通文字学习"),
    "the file breaks off: always refused": ("文件不完整：一律拒绝"),
    "the same row again": ("与前面的行重复"),
    "turns in an order that a conversation can't have": ("对话各轮的顺序不对"),
    "what the chat template can't write": ("对话模板写不出来"),
    " (bad row number {count}; the limit is {limit})": ("（第 {count} 个坏行，上限是 {limit}）"),
    " and ": (" 和 "),
    ", of rows perhaps: write each of them on a line of its own": ("，可能是一个装着多行的列表：请每行写一条"),
    '; JSON takes double quotes " only, as json.dumps(row, ensure_ascii=False) writes them': (
        '；JSON 只认双引号 "，像 json.dumps(row, ensure_ascii=False) 写出的那样'
    ),
    '; JSON takes the straight quotes " only, not those of a word processor or an input method': (
        '；JSON 只认英文直引号 "，不认文字处理软件或输入法的弯引号'
    ),
    "; a row is an object alone, without a comma after it": ("；一行就是一个对象，后面不要加逗号"),
    (
        '; a row is written {"text": "…"}, or as `minimind data example STAGE` shows; a file of plain text is to end '
        "in .txt"
    ): ('；一行应写成 {"text": "…"}，或 `minimind data example 阶段` 显示的样子；纯文本文件的名字请以 .txt 结尾'),
    ("; the file looks like a JSON list or an object over many lines: each row is to stand in one line"): (
        "；文件像是跨多行的 JSON 列表或对象：每条数据要写在同一行里"
    ),
    "; {name} = {limit}: mend them, or allow them with --set {section}.{name}={found}": (
        "；{name} = {limit}：请修正，或用 --set {section}.{name}={found} 放行"
    ),
    "a \\u escape is half a surrogate pair": ("\\u 转义只有半个代理对"),
    'a call must be JSON such as {"name": "add", "arguments": {"a": 1}}': (
        '调用必须是 JSON，例如 {"name": "add", "arguments": {"a": 1}}'
    ),
    "a row is a JSON object with {fields}, this is a {type}{advice}": (
        "一行应是含有 {fields} 的 JSON 对象，这里是 {type}{advice}"
    ),
    "a row needs {fields}, the fields here are {names}": ("一行需要 {fields}，这里的字段是 {names}"),
    "all {count:,} answers are labelled {label}: add some of the other kind": (
        "{count:,} 个回答的标签全是 {label}：请加入另一种"
    ),
    "both are {answer!r}: give another one, or leave the row out": ("两者都是 {answer!r}：请换一个，或去掉这一行"),
    "broken JSON: {at}{text}": ("JSON 有误：{at}{text}"),
    (
        "can't continue here: {what} was {theirs} and is {mine} now, so rows would be trained on "
        "twice or never. Continue with what the run began with, or start a new run from its weights."
    ): (
        "无法从这里继续：{what}原来是 {theirs}，现在是 {mine}，有些行会训练两次，或永远训练不到。请用"
        "运行开始时的设置继续，或以它的权重开始新的运行。"
    ),
    "content has a part of type {kind!r}; only text can be learnt": ("内容里有类型为 {kind!r} 的部分；只能学习文字"),
    "damaged gzip file: {error}": ("gzip 文件已损坏：{error}"),
    "delete {folder} and tokenise again": ("请删除 {folder} 后重新分词"),
    "every answer is marked as only read": ("所有回答都标为只读"),
    "field {name!r} is not used": ("字段 {name!r} 没有用到"),
    "half up to {p50:,}, 90 % up to {p90:,}, 99 % up to {p99:,}, longest {longest:,}": (
        "一半不超过 {p50:,}，90 % 不超过 {p90:,}，99 % 不超过 {p99:,}，最长 {longest:,}"
    ),
    "has calls in two places (tool_calls, function_call or its role): keep one of them": (
        "调用写在了两处（tool_calls、function_call 或角色）：请只留一处"
    ),
    "has {found} bytes": ("有 {found} 字节"),
    "history must be a list of pairs, a question and its answer each": ("history 必须是列表，每项是一问一答"),
    "instruction and input must be texts": ("instruction 和 input 必须是文字"),
    "is a folder, not a file": ("是目录，不是文件"),
    "is marked as learnt, but its role is {role}; {only_answers}": ("标为要学习，但角色是 {role}；{only_answers}"),
    "is missing": ("不存在"),
    "is nested more than {deepest} deep": ("嵌套超过 {deepest} 层"),
    "max_seq_len = {max_seq_len}: at least 2 are needed, a token and the one it predicts": (
        "max_seq_len = {max_seq_len}：至少要 2 个词元，一个用来预测另一个"
    ),
    "no assistant turn": ("没有助手的回答"),
    "no data files: give at least one": ("没有数据文件：请至少给一个"),
    "no row that can be used": ("没有一行可用"),
    "no such file": ("没有这个文件"),
    "no token shards at {folder} (no {manifest} there)": ("{folder} 里没有词元分片（没有 {manifest}）"),
    "not JSON ({error})": ("不是 JSON（{error}）"),
    "not UTF-8 but {name}; what converts it: {path}": ("不是 UTF-8，而是 {name}；转换命令：{path}"),
    "not UTF-8: byte 0x{line:02x} at position {start} of the line": (
        "不是 UTF-8：该行第 {start} 个字节是 0x{line:02x}"
    ),
    "not UTF-8: {reason}": ("不是 UTF-8：{reason}"),
    "not a readable Parquet file: {error}": ("不是可读的 Parquet 文件：{error}"),
    "nothing at all": ("什么也没有"),
    "nothing reads {names}": ("{names} 不会被读取"),
    "nothing to train on: {count} documents, none of them with two tokens or more": (
        "没有可训练的内容：{count} 篇文档都不足两个词元"
    ),
    (
        'prompt and completion as texts don\'t say who speaks: write {"conversations": [{"role": '
        '"user", "content": "…"}, {"role": "assistant", "content": "…"}]}, or one {"text": "…"} '
        "for --stage pretrain"
    ): (
        'prompt 和 completion 是文字时看不出谁在说话：请写成 {"conversations": [{"role": "user", '
        '"content": "…"}, {"role": "assistant", "content": "…"}]}，或为 --stage pretrain 写成一个'
        ' {"text": "…"}'
    ),
    "replay share = {replay}: allowed is more than 0 and less than 1, such as 0.1": (
        "重放比例 = {replay}：应大于 0 且小于 1，例如 0.1"
    ),
    "replay share = {replay}: there are no rows beside the {count} to replay": (
        "重放比例 = {replay}：{count} 行之外没有可重放的行"
    ),
    "rows": ("行数"),
    "stage {stage!r}: no rows are known for it; allowed are {names}": (
        "没有 {stage!r} 这个阶段的数据格式；可选：{names}"
    ),
    "the answer is empty": ("答案为空"),
    "the first": ("第一行"),
    "the first answer begins after {count} tokens, max_seq_len = {limit}: give a larger --max_seq_len": (
        "第一个回答在 {count} 个词元之后才开始，max_seq_len = {limit}：请加大 --max_seq_len"
    ),
    "a date or a time that Python cannot have ({reason})": "日期或时间超出了 Python 的范围（{reason}）",
    "the prompt is empty": ("提示为空"),
    "the row is empty": ("这一行是空的"),
    "the same as line {line}": ("与第 {line} 行相同"),
    "the same as line {line} of {path}": ("与 {path} 的第 {line} 行相同"),
    "the system turn's {name} and what stands beside the conversation differ: keep one": (
        "系统轮里的 {name} 与对话旁边写的不一致：请只留一个"
    ),
    "this is {looks}: use --stage {stage}": ("这是{looks}：请用 --stage {stage}"),
    (
        "tokenising into {folder} failed: {error}. {free} are free there; token shards need about as "
        "much as the text itself. Nothing half-written was left: make room (or see to the disk) and "
        "start again."
    ): (
        "分词写入 {folder} 失败：{error}。那里剩余 {free}；词元分片大约和文本一样大。没有留下写了一半"
        "的文件：请腾出空间（或检查磁盘）后重试。"
    ),
    "tool_call_id {unknown!r} is of no call in the turn before": ("tool_call_id {unknown!r} 在上一轮没有对应的调用"),
    "tools gave results for the calls {ids} of {order}: one for each is needed": (
        "工具返回的结果对应 {ids}，而调用是 {order}：每个调用要有且只有一个结果"
    ),
    "turn {count}, the last, is {role}; an answer must come last": (
        "最后一轮（第 {count} 轮）的角色是 {role}；最后必须是回答"
    ),
    "turn {number} has no content": ("第 {number} 轮没有内容"),
    "turn {number} has {tag} in its text, and no thought, call or result can be made of it": (
        "第 {number} 轮的文字里有 {tag}，无法还原成思考、调用或结果"
    ),
    "turn {number}: {error}": ("第 {number} 轮：{error}"),
    "validation fraction = {fraction}: allowed is more than 0 and less than 1, such as 0.01": (
        "验证集比例 = {fraction}：应大于 0 且小于 1，例如 0.01"
    ),
    "validation max_documents = {max_rows}: at least 1 document is needed": (
        "验证集 max_documents = {max_rows}：至少要 1 篇文档"
    ),
    "{count:,} files": ("{count:,} 个文件"),
    "{count} tokens, max_seq_len = {limit}": ("{count} 个词元，max_seq_len = {limit}"),
    "{file} as {stage}": ("{file}（按 {stage} 读取）"),
    (
        "{file} is MiniMind's file of questions for reinforcement learning: it has no answers to learn. {advice}. If "
        "yours is something else, give it another name"
    ): ("{file} 是 MiniMind 的强化学习问题文件：里面没有可学的回答。{advice}。如果你的文件是别的内容，请换个名字"),
    "{file}, {rows} rows for {stage}: ": ("{file}，{rows} 行（{stage}）："),
    "{file}: no row of {rows:,} that can be used for {stage}: {reason}": (
        "{file}：{rows:,} 行中没有一行可用于 {stage}：{reason}"
    ),
    "{folder} can't be read ({error}): {again}": ("{folder} 无法读取（{error}）：{again}"),
    (
        "{folder} has files of rows ({path}) and texts ({path2}): which are meant can't be seen. "
        "Name one file, or put either into a folder of its own"
    ): (
        "{folder} 里既有数据行文件（{path}）又有文本（{path2}），看不出要用哪种。请指定一个文件，或把"
        "其中一种放到单独的文件夹"
    ),
    (
        "{folder} was tokenised with another tokenizer: its fingerprint is {tokenizer_fingerprint}, "
        "this one's is {tokenizer_fingerprint2}. Use the tokenizer it was made with, or tokenise the "
        "data again with this one."
    ): (
        "{folder} 是用另一个分词器分词的：它的指纹是 {tokenizer_fingerprint}，这个是"
        " {tokenizer_fingerprint2}。请用当时的分词器，或用这个分词器重新分词。"
    ),
    "{folder} {state}, {size_bytes} bytes were written: {again}": (
        "{folder} {state}，写入时是 {size_bytes} 字节：{again}"
    ),
    ("{folder}: no file in this folder can be read; allowed are files that end in {suffixes}. It holds: {inside}"): (
        "{folder}：这个文件夹里没有可读的文件；可用的文件名结尾：{suffixes}。里面有：{inside}"
    ),
    "{folder}: shards of format {version}, this version reads {schema_version}: {again}": (
        "{folder}：分片格式是 {version}，本版本读取 {schema_version}：{again}"
    ),
    (
        "{folder}: {count} rows with {count2} different texts can't be split into training and "
        "validation: add data (a .txt is one text up to {short:,} characters), or give a validation "
        "file of its own (eval.path)"
    ): (
        "{folder}：{count} 行只有 {count2} 种不同的文本，无法分成训练集和验证集：请增加数据（一个"
        " .txt 在 {short:,} 个字符以内算一篇），或单独给一个验证文件（eval.path）"
    ),
    "{msg} (column {colno})": ("{msg}（第 {colno} 列）"),
    "{names}: no rows; at least one text is needed": ("{names}：没有数据行；至少需要一篇文本"),
    ("{names}: {skipped_rows} rows can't be used, max_bad_rows = {max_bad_rows}; `data check` lists them"): (
        "{names}：有 {skipped_rows} 行不能用，max_bad_rows = {max_bad_rows}；用 `data check` 查看"
    ),
    "{name} = {value!r}: only 1 and true (learnt) or 0 and false (only read) can be obeyed": (
        "{name} = {value!r}：只能是 1 和 true（学习）或 0 和 false（只读）"
    ),
    "{name} = {value}: at least {least} is needed": ("{name} = {value}：至少为 {least}"),
    "{name} and {other} are different conversations: keep one of them": (
        "{name} 和 {other} 是两段不同的对话：请只留一个"
    ),
    (
        "{name} has {count} entries, the conversation has {count2} turns: one for each turn is "
        "needed (marks of tokens are of use to the tokenizer that made them only)"
    ): ("{name} 有 {count} 项，对话有 {count2} 轮：每轮要有一项（按词元的标记只对当时的分词器有用）"),
    "{name} marks turn {number} as learnt, but its role is {role}; {only_answers}": (
        "{name} 把第 {number} 轮标为要学习，但它的角色是 {role}；{only_answers}"
    ),
    "{needs}; `minimind data example {own}` shows rows as they can be": (
        "{needs}；`minimind data example {own}` 显示正确的示例行"
    ),
    "{path} changed while it was read; start again when it is complete": (
        "{path} 在读取过程中被改动；请等文件写完后重新开始"
    ),
    ("{path}: unknown format; allowed are files that end in {suffixes}, and folders of them{advice}"): (
        "{path}：格式未知；可用的是以 {suffixes} 结尾的文件，以及装着它们的文件夹{advice}"
    ),
    "{problem}; it looks like GBK; what converts it: {path}": ("{problem}；看起来是 GBK；转换命令：{path}"),
    "{said} mean the same and say different things: keep one of them": ("{said} 意思相同却说法不一：请只留一个"),
    "{unit} in all": ("{unit}总数"),
    "{unit} per row": ("每行{unit}"),
    "only what an assistant says is learnt": ("只学习助手说的话"),
    "the training data": ("训练数据"),
    "the seed": ("随机种子"),
    "the choice of documents": ("文档的选取"),
    "the text replayed by data.mix": ("data.mix 重放的文本"),
    "passages of text": ("文本段落"),
    "characters": ("字符"),
    ", ": "、",
    "{count} {kind} ({meaning})": "{count} 行 {kind}（{meaning}）",
    "{error} ({command})": "{error}（{command}）",
    # rows that are refused, and what to do
    (
        ". A table with the names of its columns in the first line, such as text, becomes one row a line with: "
        "{command}"
    ): ("。如果是第一行为列名（例如 text）的表格，用这条命令转成每行一条：{command}"),
    (
        ". If it has one object a line, rename it to {rows}. A list in one .json file becomes one row a line "
        "with: {command}"
    ): ("。如果每行是一个对象，请改名为 {rows}。如果整个 .json 文件是一个列表，用这条命令转成每行一条：{command}"),
    "split = {split!r}, which keeps a row from training": "split = {split!r}（表示这一行不用于训练）",
    "{name} of turn {number}": "第 {number} 轮的 {name}",
    "{name} of a call of turn {number}": "第 {number} 轮调用里的 {name}",
    "{name} of a part of turn {number}": "第 {number} 轮内容里的 {name}",
    "replayed rows of {replayed} tokens among rows of {width}: pack alike": (
        "重放的行是 {replayed} 个词元，其余是 {width} 个：两者必须一样长"
    ),
    "{folder}: its rows are no pairs": "{folder}：里面的行不是成对的回答",
    "{folder}: no pair has both answers in its first {width} tokens": (
        "{folder}：没有一对的两个回答都在前 {width} 个词元内开始"
    ),
    # evaluation
    " (`minimind data fetch` makes it)": ("（用 `minimind data fetch` 获取）"),
    "a choice is between two texts or more, not {texts}": ("选择题至少有两个选项，而这里是 {texts}"),
    "a row is a JSON object, not {kind}": ("一行应是 JSON 对象，而不是 {kind}"),
    "a row has the fields {found}; of this suite it has {known}": ("这一行的字段是 {found}；这个题集的行应有 {known}"),
    'answer_language = {value!r}: there are "zh", "en" and "any"': (
        'answer_language = {value!r}：只有 "zh"、"en" 和 "any"'
    ),
    "checks is a list of objects such as {example}": ("checks 是对象的列表，例如 {example}"),
    "the answer {answer!r} is none of the choices {labels}": ("答案 {answer!r} 不在选项 {labels} 之中"),
    "the suite {file} cannot be read: {error}": ("题集 {file} 无法读取：{error}"),
    "the suite {file} is not UTF-8": ("题集 {file} 不是 UTF-8 编码"),
    "the suite {name} needs {source}, which is not there{hint}": ("题集 {name} 需要 {source}，但它不存在{hint}"),
    "there is no suite {name!r}; there are {names}": ("没有题集 {name!r}；可用：{names}"),
    "{file}: no form of row that is known: one has the fields {known}": (
        "{file}：无法识别的行格式：可识别的格式有这些字段：{known}"
    ),
    "{file}: rows = {rows!r}: made are {names}": ("{file}：rows = {rows!r}：可以生成的有 {names}"),
    "{name} is no text: {value}": ("{name} 不是文字：{value}"),
    "{source}: no row": ("{source}：没有一行"),
    "a second row with the id {id!r}": "又有一行 id 为 {id!r}",
    "the rows {file} cannot be read: {error}": "题目文件 {file} 无法读取：{error}",
    "{choice} or {letter} has to stand in it, or all choices are the same": (
        "必须含有 {choice} 或 {letter}，否则所有选项都一样"
    ),
    "{source}: no row is counted: counted is {asked}, and the rows have {present}": (
        "{source}：没有一题计入得分：counted 是 {asked}，而题目里有 {present}"
    ),
    "{file}:{line}: {name} holds what is no text and no JSON: {value}; leave that column out": (
        "{file}:{line}：{name} 里既不是文字也不是 JSON：{value}；请去掉这一列"
    ),
    "{name} is a list such as {example}, not {value}": "{name} 应是列表，例如 {example}，而不是 {value}",
    "choices is {example}, not {value}": "choices 应像 {example}，而不是 {value}",
    "{count} choices: at most {most} can be asked": "有 {count} 个选项：最多 {most} 个",
    "{texts} choices need as many different labels, not {labels}": (
        "{texts} 个选项需要同样多且互不相同的标签，而不是 {labels}"
    ),
    "the choices {labels} are the same: which is right cannot be told": "选项 {labels} 相同：分不出哪个是对的",
    "messages.{number}: role = {role}: allowed are {names}": "messages.{number}：role = {role}：可用的有 {names}",
    "messages hold NaN or Infinity, which are no JSON": "messages 里有 NaN 或 Infinity，它们不是 JSON",
    "not CSV ({error}): is a quotation mark left open, or one inside a field not written twice?": (
        "不是 CSV（{error}）：是不是有引号没有关上，或字段里的引号没有写两次？"
    ),
    "{count} fields, where the first line names {named}": "有 {count} 个字段，而第一行有 {named} 个列名",
    "{path}: it has no prompt": "{path}：里面没有要问的问题",
    "it can't be asked: {problem}": "无法提问：{problem}",
    "a text asks nothing: a prompt is {row}, or a conversation": "纯文本没有提问：应是 {row}，或者一段对话",
    "two columns are called {name!r}": "有两列都叫 {name!r}",
    "both answers are to follow the same conversation, and to be its last message": (
        "两个回答必须接在同一段对话之后，并且是最后一条消息"
    ),
    "delete {folder}, and they are computed again": ("删除 {folder}，就会重新计算"),
    "{part} is damaged": ("{part} 已损坏"),
    "the values in {folder} can't be read ({error}): {again}": ("{folder} 里的数值读不出来（{error}）：{again}"),
    "the values in {folder} are of other rows, or of another model: {again}": (
        "{folder} 里的数值属于别的数据行或别的模型：{again}"
    ),
    (
        "writing what a model says of the rows into {folder} failed: {error}. What was computed is kept: make "
        "room, or set MINIMIND_HOME to another disk, and start again."
    ): (
        "把模型对数据行的计算结果写入 {folder} 失败：{error}。已算好的会保留：请腾出空间，或把 MINIMIND_HOME 设到"
        "另一块磁盘，然后重新开始。"
    ),
    "{file} line {line}: its two answers are to different prompts": ("{file} 第 {line} 行：两个回答的提问不同"),
}
