"""Chinese phenomena: texts with slots and forks (`data.suites.templates`), and the words for the slots.

Most pairs are one swap, so both sentences have the same characters. Where there are two forms, each is right in one
text and wrong in another. The norm is written standard Chinese.
"""

from __future__ import annotations

from data.suites.templates import listed, turned

# Classifier -> its nouns, and the classifiers that none of them takes in any sense: 七座汽车 has seven seats, 一把花 is
# a bunch, 一本照片 an album, 一顶伞 is said, and the south says 一条狗, 一只鱼, 一张椅子.
_CLASSIFIERS = {
    "本": ("故事书 课本 词典 画册 小说", "辆棵顶座条把"),
    "辆": ("汽车 自行车 卡车 公共汽车 出租车", "本棵顶条张"),
    "棵": ("大树 苹果树 松树 桃树 柳树", "本辆顶张座"),
    "顶": ("帽子 草帽 红帽子 毛线帽", "本辆棵座"),
    "座": ("高山 石桥 木桥 宝塔 小山", "本辆棵顶把张"),
    "条": ("大鱼 裤子 裙子 小河 小路", "本辆棵顶座"),
    "把": ("雨伞 剪刀 勺子 梳子 锤子", "本辆棵座"),
    "张": ("桌子 书桌 圆桌 木床 大床", "本辆棵座"),
}
# Nouns that make no word with the classifier behind them, as 书本, 花朵, 帽顶 and 刀把 are.
_COUNTED = listed("""本:故事书 本:词典 本:小说 辆:自行车 辆:出租车 棵:苹果树 棵:松树 棵:柳树 条:裤子 条:裙子 条:小路
    只:小猫 只:小狗 只:小鸟 只:兔子 只:鸭子 只:猴子 只:老虎 个:苹果 个:鸡蛋 个:孩子 个:包子 件:毛衣 件:衬衫 张:桌子
    张:木床 张:照片 支:铅笔 支:毛笔 块:石头 块:手表 匹:小马 头:黄牛""")
_BOUGHT = listed("""买:本:故事书 买:顶:帽子 买:件:毛衣 买:条:裙子 吃:个:苹果 吃:个:包子 吃:个:鸡蛋 喝:杯:水
    喝:杯:牛奶 看:场:电影 写:封:信 画:只:小猫 画:只:小鸟 种:棵:树 唱:首:歌 养:只:小狗 养:条:鱼 借:本:小说 洗:件:衬衫
    讲:个:故事 找到:支:铅笔 捡到:块:石头 带来:张:照片""")
_PLACES = listed("桌子:上 椅子:上 书架:上 窗台:上 沙发:上 柜子:里 抽屉:里 盒子:里 箱子:里 篮子:里 椅子:下 大树:下")
_ASK = listed("""买:礼物 看:电影 唱:歌 吃:水果 写:字 画:动物 养:花 穿:衣服 玩:游戏 学:乐器 喝:茶 做:菜 讲:故事 读:书
    种:菜""")
_WANT = listed("""买:{thing} 吃:{food} 看:电影 喝:牛奶 听:音乐 画:小猫 洗:衣服 写:作业 种:树 修:自行车 讲:故事
    养:小狗 打扫:教室""")
_DONE = listed("""吃:完:{food} 吃:掉:{food} 写:完:作业 听:懂:{person}的话 看:完:这本书 找:到:{thing} 打:破:花瓶
    关:上:窗户 拿:走:{thing} 卖:掉:{thing} 弄:丢:{thing} 弄:坏:{thing} 抓:住:小鸟 记:住:这首歌 画:完:一只小猫""")
_DURING = listed("昨天 今天 刚才 昨晚 上午 在商店 在公园 在学校 在路上 在城里")
# Cause, what follows of it, and what is so in spite of it.
_EVENTS = listed("""很累:早早就睡了:还是没有睡 病了:没有去公园:还是去了公园 很饿:吃了三碗饭:没有吃饭
    不会游泳:没有下水:还是下了水 起晚了:迟到了:没有迟到 没有带伞:淋湿了:没有淋湿 很忙:没有来看我们:还是来看我们了
    很害怕:不敢出门:还是出了门 很生气:没有说话:还是笑了笑 走得很慢:迟到了:没有迟到 很渴:喝了很多水:没有喝水
    穿得很少:感冒了:没有感冒 摔倒了:哭了起来:没有哭""")


def _each(rows: list[str], text: str) -> list[str]:
    """The text for every row; {0}, {1}, {2} stand for its parts, so a slot is written {{slot}}."""
    return [text.format(*row.split(":")) for row in rows]


WORDS = {
    "person": listed("""妈妈 爸爸 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 老师 医生 叔叔 阿姨 同学 邻居 司机 警察 国王 公主
        王子 农夫 渔夫 店员 护士 厨师 画家 裁缝 小男孩 小女孩"""),
    "persons": listed("孩子们 同学们 老师们 大家 我们 他们 姐妹们 农夫们 哥哥和弟弟 爷爷和奶奶 爸爸和妈妈 护士们"),
    "job": listed("医生 老师 司机 警察 护士 厨师 画家 农夫 店员 歌手 木匠 裁缝 园丁 邮递员 飞行员"),
    # Nothing with a handle, which is a 把 too: 杯子把, 车把.
    "thing": listed("""书包 帽子 铅笔 故事书 毛衣 手表 钱包 照片 足球 玩具 礼物 衬衫 裙子 鞋子 围巾 风筝 画册 闹钟
        枕头 毛巾 手套 课本 橡皮 钥匙 地图 皮球"""),
    "food": listed("苹果 蛋糕 饼干 香蕉 包子 鸡蛋 面条 米饭 西瓜 草莓"),
    "a_thing": listed("""一本书 一顶帽子 一把雨伞 一个苹果 两个苹果 三支铅笔 一张照片 一件毛衣 一条毛巾 一封信
        一块手表 一双鞋子 两本画册 一个皮球 一块蛋糕 一朵红花 一盒饼干"""),
    "a_few": listed("两 三 四 五 六 七"),
    "this": listed("这 那"),
    "looks": listed("很好看 很漂亮 真好看 不见了 真不错 很特别"),
    "saw": listed("看见了 梦见了 找到了"),
    "place": _each(_PLACES, "{0}{1}"),
    "at_place": _each(_PLACES, "[{0}~{1}]"),
    "do": listed("唱歌 跳舞 游泳 画画 写字 做饭 骑马 爬树 种花 讲故事 打篮球 踢足球 包饺子 修自行车"),
    "classified": [
        f"[{right}|{wrong}]{noun}"
        for right, (nouns, others) in _CLASSIFIERS.items()
        for noun in nouns.split()
        for wrong in others
    ],
    "counted": _each(_COUNTED, "[{0}~{1}]"),
    "this_one": _each(_COUNTED, "[{{this}}~{{a_few}}{0}]{1}"),
    "ran": listed("""跑[得|地]很快 跳[得|地]很高 写[得|地]很好看 唱[得|地]很好听 走[得|地]很慢 吃[得|地]很饱
        笑[得|地]很开心 来[得|地]很早 玩[得|地]很高兴 哭[得|地]很伤心 说[得|地]很清楚"""),
    "slowly": listed("慢慢 轻轻 悄悄 偷偷 默默"),
    "walk_in": listed("走进教室 打开门 关上窗户 走出房间 站起来 离开了学校 走上楼 坐下来 拿起书包 放下铅笔"),
    "it_is": listed("这是 那是 这不是 那不是 这才是 那才是 这就是 那就是"),
    "past": listed("[昨天|明天] [上个月|下个月] [去年|明年] [上星期|下星期] [昨晚|明晚]"),
    "went": listed("""买了一本书 画了一只小猫 写了一封信 看了一场电影 种了一棵树 做了一个蛋糕 丢了一把雨伞
        洗了很多衣服 见过{person} 来过这里 去过动物园 找过{person}"""),
    "you": listed("我们 咱们 你们 你 大家 孩子们"),
    "go": listed("""去公园 去买{thing} 看电影 写信 种树 做蛋糕 来看{person} 打扫教室 洗衣服 去动物园 来这里
        去找{person} 去图书馆 爬山"""),
    "took": listed("拿走了 弄丢了 弄坏了 卖掉了 带来了 藏起来了 找到了 送给了{person}"),
    "tall": listed("高 矮 胖 瘦 忙 聪明 勤快 安静 细心 勇敢 年轻 快乐 热情 害羞 幸运"),
    "more": listed("[更|很] [更|最] [更|太] [还|很] [还|最] [还|太]"),
    "ever_did": listed("""去过海边 见过大海 看过这本书 坐过飞机 吃过草莓 养过小狗 骑过马 学过游泳 种过花 到过山顶
        住过帐篷 听过这首歌 爬过这座山 见过{person}"""),
    "can": listed("会 应该 可以"),
    "when_did": [f"[{when}~看见]了{{a_thing}}" for when in _DURING]
    + [f"[{when}~找到]了{{a_thing}}" for when in _DURING]
    + [f"[{when}~认识]了{{person}}" for when in _DURING],
    "how_went": [
        f"[{how}~走]{where}"
        for how in listed("慢慢地 轻轻地 悄悄地 高兴地")
        for where in listed("进教室 出房间 上楼 进厨房")
    ],
    "with": listed("""[用铅笔~写]了一封信 [用毛笔~写]了两个字 [用木头~做]了一张桌子 [用石头~打]破了窗户
        [跟{person}~说]了几句话 [和{person}~看]了一场电影 [向{person}~借]了{a_thing} [为{person}~做]了一个蛋糕
        [替{person}~拿]来了{thing} [从抽屉里~拿]出{a_thing} [从学校~带]回{a_thing} [对{person}~点]了点头"""),
    "wept": listed("不高兴 哭了 笑了 没来 迟到了 生气了 不吃饭 站在门口 不说话 跑得这么快 还没睡 这么着急"),
    "travel": listed("去学校 回家 去公园 去医院 来这里 上楼 过河 进城 去海边 下山 去车站 去北京"),
    # Not 想, 要, 准备, which take 什么 as their own object.
    "may": listed("打算 应该 可以 愿意 能"),
    "ask": _each(_ASK, "[{0}~什么]{1}"),
    # Not 是, 会, 想, 要: 不是是, 不会会, 不想想 and 不要要 can be said.
    "whether": listed("""[有~没有]{thing} [能~不能]{do} [敢~不敢]{do} [喜~不喜]欢{do} [愿~不愿]意{do}
        [应~不应]该{do} [可~不可]以{do}"""),
    "gave": listed("给了 送了 送给 送给了 还给 还给了 借给了"),
    "to_self": listed("""[对~自己]很满意 [对~自己]没有信心 [对~自己]说了一句话 [对~自己]点了点头 [为~自己]准备了晚饭
        [为~自己]感到高兴 [把~自己]藏在房间里 [把~自己]洗干净了 [把~自己]打扮得很漂亮 [把~自己]吓了一跳
        [跟~自己]说话 [向~自己]提了一个问题"""),
    "like": listed("喜欢 想要 需要 有"),
    "follows": _each(_EVENTS, "{{person}}{0}，[所以|但是]{1}"),
    "despite": _each(_EVENTS, "{{person}}{0}，[但是|所以]{2}"),
    "so": _each(_EVENTS, "{{person}}{0}，所以{1}"),
    "but": _each(_EVENTS, "{{person}}{0}，但是{2}"),
    "aux": listed("想 要 能 可以 应该 愿意 必须"),
    "aux_do": _each(_WANT, "[{{aux}}~{0}]{1}"),
    "done": _each(_DONE, "[{0}~{1}]了{2}"),
    "bought": _each(_BOUGHT, "{0}[了~{{a_few}}{1}]{2}"),
}

PHENOMENA = {
    "classifier_choice": [
        "{person}{saw}{a_few}{classified}。",
        "{person}喜欢{this}{classified}。",
    ],
    "classifier_order": ["{person}{saw}{a_few}{counted}。"],
    "demonstrative_order": ["{this_one}{looks}。", "{person}喜欢{this_one}。"],
    "de_choice": [
        "{person}[的|地]{thing}{looks}。",
        "{person}{slowly}[地|得]{walk_in}。",
        "{person}{ran}。",
        "{person}{slowly}[地|得]{walk_in}。",
    ],
    "de_order": ["{it_is}[{person}~的]{thing}。"],
    "time_word": ["{person}{past}{went}。", "{you}{future}再{go}吧。"],
    "ba_construction": ["{person}[把~{thing}]{took}。"],
    "bei_construction": ["{thing}[被{person}~{took}]。"],
    "comparison": ["{person}[比{person}~{tall}]。", "{person}比{person}{more}{tall}。"],
    "negation": [
        "{person}[没|不]{ever_did}。",
        "{person}[不|没]是{job}。",
        "{person}[没|不]有{thing}。",
        "{person}[不|没]{can}{do}。",
    ],
    "adverbial_order": ["{person}{when_did}。", "{person}{how_went}。"],
    "prepositional_phrase_order": ["{person}{with}。"],
    "question_particle": [
        "{person}为什么{wept}[呢|吗]？",
        "{person}[今天|怎么]{travel}吗？",
        "{person}怎么{travel}[呢|吗]？",
        "{person}[真的|怎么]会{do}吗？",
    ],
    "question_word_order": ["{person}{may}{ask}？"],
    "a_not_a_question": ["{person}{whether}？"],
    "existence_and_place": ["{place}[有|在]{a_thing}。", "{person}的{thing}[在|有]{place}。"],
    "double_object": ["{person}{gave}[{person}~{a_thing}]。"],
    "reflexive_order": ["{person}{to_self}。"],
    "adverb_dou_ye": [
        "{persons}[都~{like}]{thing}。",
        "[{persons}~都]{like}{thing}。",
        "{person}[也~{like}]{thing}。",
        "[{person}~也]{like}{thing}。",
    ],
    "conjunction": ["因为{follows}。", "[因为|虽然]{so}。", "虽然{despite}。", "[虽然|因为]{but}。"],
    "locative_order": ["{person}的{thing}在{at_place}。", "{at_place}有{a_thing}。"],
    "auxiliary_order": ["{person}{aux_do}。"],
    "result_complement": ["{person}{done}。"],
    "aspect_le_order": ["{person}{bought}。"],
}
WORDS["future"] = turned(WORDS["past"])
