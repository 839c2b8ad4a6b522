"""What `jobs` says, in Chinese: English template -> Chinese. A test holds that none is missing and none left over."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    # states
    "PENDING": "等待中",
    "RUNNING": "运行中",
    "SUCCEEDED": "已完成",
    "FAILED": "失败",
    "STOPPED": "已停止",
    # why a run failed
    "the process ended without saying so (killed, power, or out of memory)": "进程意外结束（被终止、断电或内存不足）",
    "continue with": "继续训练请加上",
    "prepares its data or waits; what for, says: minimind attach": "正在准备数据或排队，查看原因：minimind attach",
    # columns and titles
    "run": "运行",
    "sweep": "超参搜索",
    "trials": "试验",
    "begun": "已开始",
    "space": "搜索空间",
    "seconds a trial": "每次试验秒数",
    "stage": "阶段",
    "state": "状态",
    "step": "步数",
    "loss": "损失",
    "age": "距今",
    "updated": "更新于",
    "metrics": "指标",
    "last": "最新",
    "best": "最佳",
    "best so far": "目前最佳",
    "newest": "最新",
    "at step": "所在步",
    "meaning": "含义",
    "checkpoint": "检查点",
    "checkpoints": "检查点",
    "size": "大小",
    "settings": "配置",
    "origin": "来源",
    "environment": "环境",
    "disk": "磁盘",
    "notes": "备注",
    "samples": "续写示例",
    "files": "文件",
    "folder": "目录",
    "picture": "图片",
    "started": "开始",
    "attempts": "启动次数",
    "weights from": "初始权重",
    "random": "随机初始化",
    "training data": "训练数据",
    "tokenizer": "分词器",
    "free": "剩余",
    "other files": "其他文件",
    "resumed at step": "续训起始步",
    "training": "训练",
    "training, smoothed": "训练（平滑）",
    "validation": "验证",
    "plain text": "预训练文本",
    "forgetting (plain text, before and after)": "遗忘（预训练文本，训练前后）",
    "memory": "内存/显存",
    "planned": "计划",
    "tensors, predicted peak": "张量峰值（预测）",
    "tensors, measured peak": "张量峰值（实测）",
    "ETA": "剩余",
    "ago": "前",
    "server": "服务",
    "none is running": "未运行",
    "raw text to a model that chats, in some minutes": "几分钟内从原始文本得到一个会聊天的模型",
    "is your own data ready?": "检查你自己的数据",
    "learn language from text": "从文本学习语言（预训练）",
    "teach a model to answer": "教模型回答（监督微调）",
    "talk with it": "在终端聊天",
    "a page to talk with it": "启动聊天网页",
    "everything else": "其他命令",
    "no runs yet in": "还没有任何运行：",
    "no metrics yet": "还没有指标",
    "no picture yet": "还没有图片",
    # units
    "nats/token": "奈特/词元",
    "bits/byte": "比特/字节",
    "tokens/s": "词元/秒",
    "characters/token": "字符/词元",
    "tokens": "词元",
    "steps": "步",
    "epochs": "轮",
    "bytes": "字节",
    "s": "秒",
    # meanings of metrics
    "mean cross-entropy of the step's target tokens": "该步目标词元的平均交叉熵",
    "length of the whole gradient before clipping": "裁剪前的梯度范数",
    "learning rate of the step": "该步的学习率",
    "passes over the training rows so far": "已遍历训练数据的轮数",
    "real (non-padding) tokens trained on since the run began": "累计训练的有效词元数（不含填充）",
    "gradient scale of float16 training": "float16 训练的梯度缩放系数",
    "steps refused so far because a number was not finite": "因出现非有限数值而跳过的步数",
    "mean cross-entropy of the held-out tokens": "验证集词元的平均交叉熵",
    "held-out cross-entropy per byte of text, whatever the tokenizer": "验证集每字节文本的交叉熵，可跨分词器比较",
    "the same on held-out plain text: how much is forgotten": "预训练文本上的同一指标：衡量遗忘",
    "real (non-padding) tokens per second, all workers together": "所有进程合计每秒处理的有效词元数",
    "wall time of one optimizer step": "每个优化步的实际用时",
    "part of the step spent waiting for data": "每步中等待数据的时间",
    "matrix work done (6N per real token) over the device's measured peak": "矩阵算力利用率（每有效词元按 6N 计）",
    "most memory held so far, on the worker that holds most": "占用最多的进程的内存峰值",
    "share of the tokens in the batches that is not padding": "批次中有效词元的比例",
    "compression of Chinese text": "中文文本压缩率",
    "compression of English text": "英文文本压缩率",
    # demo, sweeps and data
    "lost, behind max_seq_len": "超出 max_seq_len，被截断",
    "read, not learnt": "只读，不学",
    "learnt": "学习",
    "answer": "回答",
    "truth": "正确答案",
    "question": "问题",
    "in all": "合计",
    "error": "误差",
    "memory of a step": "每步内存",
    "asked first": ("作为第一问"),
    "asked second": ("作为第二问"),
    "asked third": ("作为第三问"),
    "disk full": ("磁盘已满"),
    "failed": ("失败"),
    "infeasible": ("显存不足"),
    "its process died, or was killed (perhaps for its memory)": ("进程意外结束或被终止（可能是内存不足）"),
    "not taught: says that it does not know": ("没学过的，会老实说不知道"),
    "referring to the question before": ("承接上一问"),
    " A text is cut into several from {short:,} characters on, at the ends of its lines.": (
        "文本达到 {short:,} 个字符时，会在行尾切成几篇。"
    ),
    " Not used: {names}.": ("未使用：{names}。"),
    "(ends with: minimind serve --stop)": ("（停止：minimind serve --stop）"),
    ", {count} more points closed": ("，另排除 {count} 个配置"),
    "--model {model}: a continued sweep keeps its model; leave it out": (
        "--model {model}：继续的搜索沿用原来的模型；请去掉它"
    ),
    "--workers 0: a sweep needs Ray Tune; --workers says how many trials run at once, at least 1": (
        "--workers 0：搜索需要 Ray Tune；--workers 是同时进行的试验数，至少为 1"
    ),
    ": {count} tokens, {learnt} learnt": ("：{count} 个词元，学习其中 {learnt} 个"),
    "; {count} broken rows left out": ("；跳过 {count} 个坏行"),
    "; {count} longer than {width} tokens are read in pieces": ("；{count} 篇超过 {width} 个词元，分段读取"),
    "; {count} longer than {width} tokens lose their end": ("；{count} 篇超过 {width} 个词元，结尾会丢掉"),
    "; {count} with no answer in their first {width} tokens left out": (
        "；{count} 篇的前 {width} 个词元里没有回答，已去掉"
    ),
    "A run would refuse this file:": ("训练会拒绝这个文件："),
    ("A run would refuse this file: it is one text alone, and a part must be held out to measure on."): (
        "训练会拒绝这个文件：它只有一篇文本，而必须留出一部分用来验证。"
    ),
    "Already there: {folder}": ("已经有了：{folder}"),
    (
        "Asking {count} questions in words that it was not taught with, over HTTP: each as first, "
        "second and third question of a conversation ..."
    ): ("正在通过 HTTP 提 {count} 个问题，都用没教过的问法：每题分别作为对话的第一、第二、第三问……"),
    ("Bits per byte on text that it never saw: {before:.3f} before, [green]{after:.3f}[/] after (less is better)."): (
        "没见过的文本，每字节比特数：训练前 {before:.3f}，训练后 [green]{after:.3f}[/]（越低越好）。"
    ),
    "Check it": ("检查数据"),
    "Checked {name}: {what}, {found}.{unused}": ("已检查 {name}：{what}，{found}。{unused}"),
    "Data: {name}: {count} {documents}, {tokens} tokens, {size} of {text}{cut}{skipped}.": (
        "数据：{name}：{count} 篇{documents}，{tokens} 个词元，{text} {size}{cut}{skipped}。"
    ),
    "Exact match on held-out phrasings:": ("没见过的问法，完全答对的比例："),
    "Fetch the stock data": ("获取自带数据"),
    "Fetching the stock data (pinned packages, by pip and npm)": (
        "正在获取自带数据（固定版本的软件包，经 pip 和 npm）"
    ),
    "Fetching the stock data (pinned packages, by pip)": ("正在获取自带数据（固定版本的软件包，经 pip）"),
    "It answers the first question, but later ones less often ({share:.0f} %)": (
        "第一问答得上来，后面的问题答得差一些（{share:.0f} %）"
    ),
    "It answers, whether it is asked first or later": ("先问后问，它都答得上来"),
    "It has not learnt its facts well": ("它还没有学好这些知识"),
    (
        "LoRA: {trained} of {total} parameters trained ({share}). Gradients and optimizer took "
        "{adapter_bytes}; all weights would have taken {full_bytes}: {saved} of memory saved."
    ): (
        "LoRA：训练了 {total} 个参数中的 {trained} 个（{share}）。梯度和优化器占用 {adapter_bytes}，"
        "全参数训练需要 {full_bytes}：节省 {saved} 内存/显存。"
    ),
    "Looking for what fits: {card}": ("正在查找放得下的配置：{card}"),
    "Loss curve: {picture}": ("损失曲线：{picture}"),
    "Loss on answers that it never saw: {before:.3f} → {after:.3f}": ("没见过的回答的损失：{before:.3f} → {after:.3f}"),
    "Make room, then go on: minimind resume {name}": ("请腾出空间，然后继续：minimind resume {name}"),
    "Memory (MB)": ("显存 (MB)"),
    "Next:": ("下一步："),
    "No --tokenizer given: training one with {vocab_size} ids on {source}.": (
        "没有给 --tokenizer：正在 {source} 上训练一个 {vocab_size} 词的分词器。"
    ),
    (
        "No package could be had: composing the data from the project's own tables alone (capitals, "
        "provinces, elements, sums, small talk)."
    ): ("一个软件包也没有下载到：只用项目自带的表格（首都、省份、元素、算术、闲聊）组成数据。"),
    "No trial has measured anything; their reasons stand above.": ("没有任何试验得到结果，原因见上。"),
    "Nothing stands in the way of training on it.": ("可以用它训练，没有问题。"),
    "Pareto front": ("帕累托前沿"),
    "Plain text, bits per byte before and after SFT: {before:.3f} → {after:.3f} ({change:+.1f} %)": (
        "普通文本每字节比特数，微调前后：{before:.3f} → {after:.3f}（{change:+.1f} %）"
    ),
    "Pretrain the tiny model": ("预训练 tiny 模型"),
    "Report: {report}": ("报告：{report}"),
    "Serve it, and ask what it was taught": ("启动服务并提问"),
    "Stock data: {size} in {folder}: {rows}.": ("自带数据：{size}，在 {folder}：{rows}。"),
    "Talk with it: {url}/": ("和它聊天：{url}/"),
    "Teach it to answer (SFT)": ("教它回答（监督微调）"),
    "The demo has been here before and goes on where it was. From the start: make demo FRESH=1": (
        "演示曾经运行过，将从上次的地方继续。从头开始：make demo FRESH=1"
    ),
    ("The demo has been here before, with data that this version composes otherwise: it begins anew."): (
        "演示曾经运行过，但这一版本的数据已经不同：从头开始。"
    ),
    "The model: {folder}   ({duration} for this demo)": ("模型：{folder}   （本次演示用时 {duration}）"),
    "The server that runs takes the new model at once: {url}": ("正在运行的服务会立即换上新模型：{url}"),
    "The stage that learns from it, {stage}, is not there yet, but comes.": ("学习它的阶段 {stage} 还没有，以后会有。"),
    "Tokenizer of {count} ids in {folder}: {words}.": ("{count} 词的分词器已保存到 {folder}：{words}。"),
    "Tokenizer: {folder}": ("分词器：{folder}"),
    "Train it: minimind train {stage} --spec {file} --name NAME": (
        "用最佳配置训练：minimind train {stage} --spec {file} --name 名称"
    ),
    "Train the tokenizer": ("训练分词器"),
    "Use it with: --tokenizer {name}": ("使用它：--tokenizer {name}"),
    "What came of it": ("结果"),
    "What the model will learn about: {titles}": ("模型将学到的主题：{titles}"),
    (
        "a continued sweep keeps its settings, but for --trials; it was started with other {names}. "
        "Leave them out, or start another with --name OTHER"
    ): (
        "继续的搜索沿用原来的配置，只有 --trials 可以改；与开始时不同的有：{names}。请去掉它们，或用"
        " --name 另起一个名称"
    ),
    "another process": ("另一个进程"),
    "answers": ("回答"),
    "conversations": ("对话"),
    "documents": ("文档"),
    "ended early": ("提前结束"),
    "ended early: at this point other trials of the sweep were better": ("提前结束：到这一步，搜索中的其他试验更好"),
    "every point that fits has been tried": ("所有放得下的配置都试过了"),
    "in all: {point}": ("全部试验相同：{point}"),
    "measured": ("实测"),
    "no letters": ("没有文字"),
    ("no point of the space fits {card}. The smallest is {settings}; most of it: {largest}.\n{refusal}"): (
        "搜索空间里没有 {card} 放得下的配置。最小的是 {settings}；主要占用：{largest}。\n{refusal}"
    ),
    "no run {name!r} at {path}; {hint}": ("没有名为 {name!r} 的运行（{path}）；{hint}"),
    "no {kind} {name!r} at {path}: to start it, leave --from_resume out": (
        "{path} 没有名为 {name!r} 的{kind}：要新建，请去掉 --from_resume"
    ),
    "nothing wrong": ("没有问题"),
    "once in every new terminal": ("每个新终端先执行一次"),
    "out of memory or failed": ("显存不足或失败"),
    "predicted": ("预测"),
    "refused": ("放不下"),
    "refused, never started": ("放不下，从未启动"),
    (
        "run name {name!r}: a name has 1 to 100 letters (a-z, A-Z), digits, '-', '_' and '.', and "
        "starts with a letter or digit"
    ): ("运行名称 {name!r}：应为 1 到 100 个字母（a-z、A-Z）、数字、“-”、“_”或“.”，并以字母或数字开头"),
    "runs there: {near}": ("那里的运行有：{near}"),
    "space {name!r}: there are {spaces}, or your own: a file whose name ends in .json": (
        "没有搜索空间 {name!r}：可选 {spaces}，或你自己的、以 .json 结尾的文件"
    ),
    "stage {stage}, not {stored}": ("阶段是 {stage}，不是 {stored}"),
    "text": ("文本"),
    "the disk is full, trial {number} could not go on: {reason}": ("磁盘已满，试验 {number} 无法继续：{reason}"),
    "the same in the terminal": ("在终端聊天"),
    (
        "the space has no point: no batch_size x max_seq_len in it divides the {tokens} tokens of a "
        "step (batch_size x accumulation_steps x max_seq_len of the run); change one of them"
    ): (
        "搜索空间里没有可用的配置：没有 batch_size x max_seq_len 能整除每步的 {tokens} 个词元（运行的"
        " batch_size x accumulation_steps x max_seq_len）；请改动其中一项"
    ),
    "the space: {name} takes a list of values, not a range": ("搜索空间：{name} 要写成一组值，不能是范围"),
    "the stock data is damaged: make demo FRESH=1 fetches it again": ("自带数据已损坏：用 make demo FRESH=1 重新获取"),
    (
        "the tokenizer in {where} has {vocab_size} ids, the model has {vocab_size2}: set the model "
        "to it with --set model.vocab_size={vocab_size}, or take another tokenizer"
    ): (
        "{where} 的分词器有 {vocab_size} 个词，模型有 {vocab_size2} 个：请用 --set "
        "model.vocab_size={vocab_size} 让模型与它一致，或换一个分词器"
    ),
    (
        "the {kind} {name!r} exists already ({word}, {path}). Continue it with `--from_resume 1`, "
        "take another name with `--name`, or delete it and start afresh with `--overwrite 1`"
    ): (
        "{kind} {name!r} 已经存在（{word}，{path}）。继续它请加 `--from_resume 1`，换个名称请用"
        " `--name`，删掉重来请加 `--overwrite 1`"
    ),
    "the {kind} {name!r} is not running, it is {word}: there is nothing to stop": (
        "{kind} {name!r} 没有在进行，状态是{word}：没有可停止的"
    ),
    (
        "the {kind} {name!r} is running already ({holder}). Watch it with `minimind {verb} {name}`, "
        "stop it with `minimind stop {name}`, or start under another name with `--name`"
    ): (
        "{kind} {name!r} 正在进行（{holder}）。查看：`minimind {verb} {name}`，停止：`minimind stop "
        "{name}`，或用 `--name` 换个名称"
    ),
    (
        "the {kind} {name!r} was created anew by another process just now ({path}): what it trains "
        "is not this. Take another name with `--name`"
    ): ("{kind} {name!r} 刚被另一个进程重新创建（{path}）：它训练的不是这一个。请用 `--name` 换个名称"),
    ("there is a {other} of the name {name!r} ({namesake}): take another one for the {kind} with `--name`"): (
        "已经有同名的{other} {name!r}（{namesake}）：请用 `--name` 给这个{kind}换个名称"
    ),
    "there is no run yet": ("还没有任何运行"),
    "trial {number} / {last}: {point} ...": ("试验 {number} / {last}：{point} ……"),
    "trial {number} could not be written down: {error}": ("试验 {number} 无法写入记录：{error}"),
    "trial {number}: {point}": ("试验 {number}：{point}"),
    "went to its end": ("已完成"),
    "your own model": ("训练你自己的模型"),
    "{answers}; and it has forgotten some of its plain text.": ("{answers}；普通文本忘掉了一些。"),
    "{answers}; and it has kept what it knew of plain text.": ("{answers}；普通文本也没有忘掉。"),
    "{count} in {name}": ("{name} {count} 行"),
    "{count} rows": ("{count} 行"),
    "{feasible} points fit, {refused} are never started; {count} trials of {budget:g} s": (
        "{feasible} 个配置放得下，{refused} 个放不下、不会启动；还有 {count} 次试验，每次 {budget:g} 秒"
    ),
    "{folder} holds checkpoints and is none: name one of them, such as {inside}": (
        "{folder} 里装着检查点，本身不是检查点：请指定其中一个，例如 {inside}"
    ),
    (
        "{folder} is no checkpoint of this system (it has no {manifest}): weights of upstream "
        "MiniMind or Hugging Face become one by `minimind convert {folder} NEW_FOLDER`"
    ): (
        "{folder} 不是本系统的检查点（没有 {manifest}）：上游 MiniMind 或 Hugging Face 的权重请先转换"
        "：`minimind convert {folder} 新目录`"
    ),
    ("{free} of the card are free, the trial needs {needed}: another process holds the rest (nvidia-smi lists them)"): (
        "显卡只剩 {free}，这次试验需要 {needed}：其余被别的进程占用（用 nvidia-smi 查看）"
    ),
    (
        "{given}: a sweep decides this for each of its trials, which train for --budget_s seconds "
        "and are not kept: leave it out"
    ): ("{given}：搜索会为每次试验自行决定（每次训练 --budget_s 秒，不保留结果）：请去掉"),
    "{kind} without first weights: name a tokenizer with --tokenizer RUN": (
        "{kind} 没有初始权重：请用 --tokenizer 名称 指定分词器"
    ),
    (
        "{named}: none of its {count} conversations has an answer in its first {width} tokens; the "
        "earliest begins after {first_targets}. Give rows more tokens with --max_seq_len, or name "
        "another file"
    ): (
        "{named}：{count} 段对话的前 {width} 个词元里都没有回答；最早的在 {first_targets} 个词元之后"
        "。请用 --max_seq_len 加长每行，或换一个文件"
    ),
    "{name} was stopped. Go on: minimind resume {name}": ("{name} 已停止。继续：minimind resume {name}"),
    "{name}: {known}; looked at before.": ("{name}：{known}；以前检查过。"),
    "{name}@best: no checkpoint in {checkpoints} has been validated": (
        "{name}@best：{checkpoints} 里没有验证过的检查点"
    ),
    "{path} = {value!r}: without quotes, {read!r}": ("{path} = {value!r}：不加引号就是 {read!r}"),
    (
        "{path} can't be read on the machine {node}: {error}. On a cluster, data and MINIMIND_HOME "
        "must lie where every machine reaches them under the same path, such as a shared disk"
    ): (
        "机器 {node} 读不到 {path}：{error}。在集群上，数据和 MINIMIND_HOME 必须放在每台机器都能用同"
        "一路径访问的地方，例如共享磁盘"
    ),
    "{path}: a range holds numbers that are not whole; name the values in a list": (
        "{path}：范围里不是整数；请列出具体的值"
    ),
    "{path}: a sweep cannot vary it, its trials would not be comparable": (
        "{path}：搜索不能改变它，否则试验之间无法比较"
    ),
    "{plan_path} cannot be read: {error}": ("{plan_path} 无法读取：{error}"),
    (
        "{source}: none of {count} conversations has an answer in its first {width} tokens: give "
        "others, or a longer --max_seq_len"
    ): ("{source}：{count} 段对话的前 {width} 个词元里都没有回答：请换数据，或加大 --max_seq_len"),
    "{spec_path} cannot be read: it holds no object": ("{spec_path} 无法读取：里面不是对象"),
    "{spec_path} cannot be read: {error}": ("{spec_path} 无法读取：{error}"),
    (
        "{spec_path} has schema_version {version!r}; this program reads {schema_version}: use the "
        "version that wrote it, or start a new run"
    ): ("{spec_path} 的 schema_version 是 {version!r}，本程序读取 {schema_version}：请用写它的版本，或新建一个运行"),
    "{text!r}: the run at {path} has no checkpoint yet": ("{text!r}：{path} 的运行还没有检查点"),
    "{text!r}: the run is {word}, so say which checkpoint is meant: {run}": (
        "{text!r}：运行的状态是{word}，请说明用哪个检查点：{run}"
    ),
    "{text!r}: there is no such checkpoint in {checkpoints}; there are {run}": (
        "{text!r}：{checkpoints} 里没有这个检查点；可选：{run}"
    ),
    "{text!r}: {error}. A folder is named with a slash in it, such as ./{name}": (
        "{text!r}：{error}。目录要带斜杠，例如 ./{name}"
    ),
    "{trials} trials, {feasible} points that fit, {refused} refused and never started": (
        "{trials} 次试验，{feasible} 个配置放得下，{refused} 个放不下、从未启动"
    ),
    "{value:.2f} characters per token in Chinese": ("中文每词元 {value:.2f} 个字符"),
    "{value:.2f} characters per token in English": ("英文每词元 {value:.2f} 个字符"),
    # chat and serve
    "show the models, or take another one": "列出模型，或切换模型",
    "give the model a role, and begin anew": "设置系统提示词，并重新开始对话",
    "let the model think before it answers": "回答前是否先思考",
    "0 always takes the likeliest word, 2 is the wildest; auto: what the model's checkpoint says": (
        "采样温度：0 总选最可能的词，2 最随意；auto 用检查点自带的值"
    ),
    "forget what was said": "清空对话",
    "leave (also Ctrl-D); Ctrl-C stops an answer": "退出（也可按 Ctrl-D）；Ctrl-C 停止当前回答",
    "stopped": "已停止",
    "model": "模型",
    "system prompt": "系统提示词",
    "thinking": "思考",
    "temperature": "采样温度",
    "a number from 0 (always the likeliest word) to 2": "应为 0（总选最可能的词）到 2 之间的数",
    "none": "无",
    "/help": "输入 /help 查看命令",
    "in this process": "在本进程中运行",
    "no such command": "没有这个命令",
    "A new conversation.": "已开始新对话。",
    "There is no model yet: minimind train": "还没有模型：请先用 minimind train 训练",
    "of the model": "模型自带",
    "the same as": "等同于",
    "continues text": "只会续写",
    "It has not learnt to answer: it goes on with the text you begin.": "它还不会对话，只会续写：你写开头，它接着写。",
    "To teach it": "教会它回答",
    "That line was not sent: it is not all text in": "这一行没有发送，其中有些字节不是这种编码的文字：",
    "Check the terminal.": "请检查终端的编码设置。",
    "no server answers at": "服务没有响应：",
    "no list of models": "没有返回模型列表",
    "the connection broke off; the answer is incomplete": "连接中断，回答不完整",
    "the conversation is too long; /new": "对话太长，请输入 /new 重新开始",
    "starting the server": "正在启动服务",
    "The server runs": "服务已启动",
    "chat page": "聊天网页",
    "OpenAI API": "OpenAI 接口",
    "in the terminal": "在终端聊天",
    "end it": "停止服务",
    "the default": "默认值",
    "before": "之前",
    "another one": "已更换",
    "No server is running.": "没有正在运行的服务。",
    "The server has ended.": "服务已停止。",
    # the command line
    "error:": "错误：",
    "this help": "显示这份帮助",
    "options": "选项",
    "arguments": "参数",
    "stages": "训练阶段",
    "default: {value}": "默认：{value}",
    "language of what is said (default: that of the locale)": "输出所用的语言（默认：系统语言）",
    "see: {command}": "查看：{command}",
    "near: {names}": "相近的有：{names}",
    "; there are {names}": "；可选：{names}",
    "no such flag; near: {names}": "没有这个参数；相近的有：{names}",
    "no such flag; see --help": "没有这个参数；请看 --help",
    "no such flag; see --help, or use --set": "没有这个参数；请看 --help，或使用 --set",
    "no such flag; {instead}": "没有这个参数；{instead}",
    "a full-width or other special dash stands there: type it as an ordinary dash": (
        "这里有全角或特殊的横线，请改成半角"
    ),
    "a full-width or other special space stands there: type it as an ordinary space": (
        "这里有全角或特殊的空格，请改成半角"
    ),
    "the following arguments are required: {names}": "缺少参数：{names}",
    "unrecognized arguments: {words}": "无法识别的参数：{words}",
    "argument {name}: invalid choice: {typed} (choose from {choices})": (
        "参数 {name}：没有 {typed} 这个选项（可选：{choices}）"
    ),
    "argument {name}: expected one argument": "参数 {name}：后面缺少一个值",
    "argument {name}: {problem}": "参数 {name}：{problem}",
    "{text!r} is neither 0 nor 1": "{text!r} 既不是 0 也不是 1",
    "{text!r} is not a number of seconds above 0": "{text!r} 不是大于 0 的秒数",
    "{text!r} is not a whole number of at least 1": "{text!r} 不是大于等于 1 的整数",
    "relative paths count from MINIMIND_HOME": "相对路径从 MINIMIND_HOME 算起",
    "relative paths count from this folder": "相对路径从当前目录算起",
    "MINIMIND_HOME, where all you keep lies, is {home}: a file; set it to a folder": (
        "MINIMIND_HOME（存放全部数据的目录）是 {home}，它是一个文件；请设为一个目录"
    ),
    "Make your own small language model: raw text to a trained model.": ("从原始文本训练属于你自己的小语言模型。"),
    "{program} VERB --help says what a verb takes.": "{program} 命令 --help：查看某个命令的参数。",
    "all of it": "一条龙",
    "data": "数据",
    "train": "训练",
    "look": "查看",
    "talk": "对话",
    "machine": "机器",
    "machines": "机器",
    "memory and speed": "内存与速度",
    "learning rate": "学习率",
    "the run": "运行",
    "the sweep": "超参搜索",
    "cluster": "集群",
    "raw text to a model that chats, in a few minutes, with stock data": (
        "用自带数据，几分钟从原始文本得到一个会聊天的模型"
    ),
    "fetch the stock data, check and look at your own": "获取自带数据，检查和查看你自己的数据",
    "import upstream .pth, safetensors or Hugging Face weights as a checkpoint": (
        "把上游 .pth、safetensors 或 Hugging Face 权重导入为检查点"
    ),
    "whether a stage fits a card, before it runs and without one": (
        "一个阶段在某张显卡上放不放得下：不必运行，也不必有卡"
    ),
    "train one stage": "训练一个阶段",
    "trials over a space of settings, none of which runs out of memory": "在一组配置上做试验，保证不会显存不足",
    "continue a run or a sweep where it stopped or died": "从停下或中断处继续一个运行或搜索",
    "end a run or a sweep cleanly, with a checkpoint": "保存检查点，干净地停止一个运行或搜索",
    "list all runs and sweeps": "列出所有运行和搜索",
    "one run or sweep: settings, lineage, checkpoints, loss curve": (
        "查看一个运行或搜索：配置、来源、检查点、损失曲线"
    ),
    "follow a job again": "重新跟随一个任务",
    "what a run's job has said": "查看一个运行的任务日志",
    "remove a run or a sweep": "删除一个运行或搜索",
    "talk with a model in the terminal": "在终端里和模型对话",
    "your models behind an OpenAI-compatible endpoint, with a chat page": (
        "用 OpenAI 兼容接口提供你的模型，并附聊天网页"
    ),
    "the local Ray cluster": "本机的 Ray 集群",
    "measure and prove on this machine's GPU what is said of it": "在本机 GPU 上实测并验证",
    "no runs yet in {folder}": "还没有任何运行：{folder}",
    "how far it is": "看看训练到哪一步了",
    "its name": "名称",
    "name of the run or the sweep": "运行或搜索的名称",
    "name of the run and of its folder": "运行的名称，也是其目录名",
    "submission id, or the name of a run (its newest job)": "任务 id，或运行的名称（取其最新的任务）",
    "submit and return; without it the job is followed": "提交后立即返回；不加则一直跟随任务",
    "delete an older run of this name": "删除同名的旧运行",
    "continue the run of this name": "继续这个名称的运行",
    "continue the sweep of this name": "继续这个名称的搜索",
    "learn a vocabulary from text": "从文本学习词表",
    "learn language from plain text: predict every next token": "从纯文本学习语言：预测每个下一词元",
    "learn to answer, from conversations: all weights, on what the assistant says": (
        "从对话学习回答：训练全部权重，只学助手说的话"
    ),
    "learn to answer with little memory: SFT of a small adapter beside frozen weights": (
        "用很少的显存学习回答：冻结权重，只训练旁边的小适配器"
    ),
    (
        "settings by dotted path, such as a sweep's best.json, or a run's spec.json; its relative "
        "paths count from MINIMIND_HOME, and flags win over it"
    ): (
        "按点分路径给出的配置，例如搜索得到的 best.json，或某次运行的 spec.json；其中的相对路径从 "
        "MINIMIND_HOME 算起，命令行参数优先"
    ),
    (
        "choose batch_size, accumulation_steps, max_seq_len and activation_checkpointing for the "
        "card: conservative (保守, at most 60 %% of it), standard (标准, 80 %%) or aggressive (激进, 92 "
        "%%), and its dtype; what is given stays"
    ): (
        "按显卡自动选择 batch_size、accumulation_steps、max_seq_len、activation_checkpointing 和 "
        "dtype：保守（conservative，最多用 60 %%）、标准（standard，80 %%）或激进（aggressive，92 "
        "%%）；已给出的不变"
    ),
    "any other setting by its dotted path, such as {example}; may be repeated": (
        "用点分路径设置任何其他配置，例如 {example}；可重复使用"
    ),
    "size, hidden x layers: {sizes}; with --from_weight that of the weights (default: {model})": (
        "模型大小，宽度 x 层数：{sizes}；给了 --from_weight 则用其权重的大小（默认：{model}）"
    ),
    "width: numbers per token between two blocks": "宽度：层与层之间每个词元的数字个数",
    "blocks, one after the other": "层数",
    "training rows: .jsonl, .jsonl.gz or .parquet, texts: .txt or .md, or a folder of either; in a job a relative path "
    "counts from MINIMIND_HOME": (
        "训练数据：.jsonl、.jsonl.gz 或 .parquet；文本：.txt 或 .md；或由它们组成的文件夹；在任务中相对路径从 "
        "MINIMIND_HOME 算起"
    ),
    (
        "a tokenizer: a run, run@step, run@best, or a folder with a slash in it (./folder); default: "
        "that of the first weights, or one of model.vocab_size ids, trained on the data and kept for "
        "the next run"
    ): (
        "分词器：一个运行、运行@步数、运行@best，或带斜杠的目录（./目录）；默认：初始权重自带的，"
        "否则在数据上训练一个 model.vocab_size 大小的，并留给下次使用"
    ),
    "tokens per packed row; longer documents are read in pieces, longer conversations lose their end": (
        "每行词元数；更长的文档分段读取，更长的对话丢弃结尾"
    ),
    "more than 0: a thread prepares the next step meanwhile": "大于 0：用一个线程预先准备下一步的数据",
    "rows that can't be read, lack fields or are empty: left out": "无法读取、缺字段或为空的行：最多跳过这么多",
    "rows that can't be used: so many may be left out": "不能用的行：最多跳过这么多",
    "rows per forward pass on one worker": "每个进程每次前向的行数",
    "forward passes per optimizer step": "每个优化步累积的前向次数",
    "passes over the data": "遍历数据的轮数",
    "stop after this many optimizer steps, if sooner": "最多训练这么多步",
    "peak learning rate": "最大学习率",
    "muon (with AdamW for embeddings, head, norms) or adamw": "muon（嵌入、输出头和归一化用 AdamW）或 adamw",
    "largest gradient norm that is used as it is": "梯度裁剪的最大范数",
    (
        "autocast: auto takes bfloat16 where the GPU has it, else float16 on a GPU; on a CPU "
        "float32, or bfloat16 where that is measured to be clearly faster. Decided once, for all "
        "workers and the whole run"
    ): (
        "混合精度：auto 在支持的 GPU 上用 bfloat16，其他 GPU 用 float16；CPU 上用 float32，实测 "
        "bfloat16 明显更快时用 bfloat16。只决定一次，对所有进程和整个运行有效"
    ),
    "torch.compile each block: a slow start, then a few percent faster": (
        "对每层使用 torch.compile：启动慢，之后快百分之几"
    ),
    "compute activations again in backward: less memory": "反向时重新计算激活值：省显存",
    "steps between two rows of training metrics": "每隔多少步记录一次训练指标",
    "steps between two checkpoints; default: a tenth of the run": ("每隔多少步保存检查点；默认：总步数的十分之一"),
    "steps between two validations; default: a tenth of the run": "每隔多少步验证一次；默认：总步数的十分之一",
    "first weights: a run, run@step, run@best, a checkpoint folder with a slash in it (./folder), or none": (
        "初始权重：一个运行、运行@步数、运行@best、带斜杠的检查点目录（./目录），或 none"
    ),
    "Ray Train workers; 0: in this process; default: one per GPU, else one": (
        "Ray Train 进程数；0：在本进程内训练；默认：每张 GPU 一个，没有则一个"
    ),
    "take no more memory than this, such as 8GB; on a CPU the limit is emulated; default: all there is": (
        "最多使用这么多显存，例如 8GB；在 CPU 上为模拟限制；默认：不限"
    ),
    "decides initial weights, row order and samples": "随机种子：决定初始权重、数据顺序和采样",
    "inner width of the two matrices beside each adapted map": "适配器的秩：两个小矩阵的内部宽度",
    "weight of the adapter; what it adds is times alpha / rank": "适配器的权重：其输出乘以 alpha / rank",
    "share of the adapter's inputs set to zero in training": "训练时适配器输入的丢弃比例",
    "text: .jsonl, .jsonl.gz, .parquet, .txt, .md or a folder": "文本：.jsonl、.jsonl.gz、.parquet、.txt、.md 或文件夹",
    "how many token ids, special ones included": "词表大小，含特殊词元",
    "take each CJK character by itself": "每个汉字单独成词元",
    (
        "flags of `train` that change nothing of what is learnt, such as --batch_size, --workers, "
        "--vram, --save_interval, or where a file lies now; for a sweep --trials"
    ): (
        "`train` 的参数中不影响学习结果的那些，例如 --batch_size、--workers、--vram、"
        "--save_interval，或文件的新位置；对搜索是 --trials"
    ),
    (
        "the run {name!r} is of the stage {stage!r}, which is not continued but done again: "
        "{program} train {stage} --name {name} --overwrite 1"
    ): ("运行 {name!r} 属于 {stage!r} 阶段，它不能继续，只能重做：{program} train {stage} --name {name} --overwrite 1"),
    (
        "Train for a given time with each of many settings, with Ray Tune, and compare. What the "
        "memory plan refuses is never started. Flags of the stage hold for every trial."
    ): ("用 Ray Tune 以多组配置各训练一段时间并比较。显存计划认为放不下的不会启动。阶段的参数对每次试验都有效。"),
    (
        "batch (sizes, at the same tokens per step), rate (learning rate, schedule), rank (of an "
        "adapter), or a file of your own, FILE.json: dotted path -> values (default: batch)"
    ): (
        "batch（批大小，每步词元数不变）、rate（学习率和调度）、rank（适配器的秩），或你自己的文件 "
        "FILE.json：点分路径 -> 取值（默认：batch）"
    ),
    "at most so many (default: 20)": "最多多少次（默认：20）",
    "seconds that a trial trains (default: 60)": "每次试验训练的秒数（默认：60）",
    "what is best; both are measured (default: bits_per_byte)": ("以什么为最佳；两者都会测量（默认：bits_per_byte）"),
    "trials that run at the same time (default: one per GPU, else one)": (
        "同时运行的试验数（默认：每张 GPU 一个，没有则一个）"
    ),
    (
        "Where the memory of a training step goes and whether it fits, from the shapes alone: "
        "nothing is trained. Without --vram for the device that is here."
    ): ("一个训练步的显存用在哪里、放不放得下：只按形状计算，不做训练。不加 --vram 时按本机设备计算。"),
    "for every stage and model, the largest batch_size on 4, 6, 8 and 12 GB": (
        "列出每个阶段和模型在 4、6、8、12 GB 上最大的 batch_size"
    ),
    "measure this machine's GPU, so that plans are exact": "实测本机 GPU，使计划更准确",
    "where the card of --vram is (default: as here)": "--vram 所指显卡所在的系统（默认：与本机相同）",
    'forecast the time on a card, such as "RTX 3050"': '预测在某张显卡上的用时，例如 "RTX 3050"',
    "make a few real steps here: their peak, and a forecast of the time": ("在本机实际跑几步：测出峰值并预测用时"),
    "plan --{whole} is of no single stage: leave {stage!r} out": ("plan --{whole} 不针对单个阶段：请去掉 {stage!r}"),
    "plan: name a stage, or --table, or --calibrate; see minimind plan --help": (
        "plan：请给出一个阶段，或 --table，或 --calibrate；见 minimind plan --help"
    ),
    "bring the stock data out of pinned packages and build the files of every stage": (
        "从固定版本的软件包取出自带数据，生成各阶段的文件"
    ),
    "the data doctor: what is wrong with a file, with line numbers": "数据体检：指出文件哪一行有什么问题",
    "rows as a stage reads them, one of each form, to begin a file with": (
        "输出某个阶段的示例行，每种格式一行，可作为你的文件的开头"
    ),
    "the first rows as a stage reads them: what is learnt, and what is only read": (
        "显示开头几行：哪些会学，哪些只读不学"
    ),
    "how much is built (default: demo)": "生成多少（默认：demo）",
    "leave out the poems, which come by npm (85 MB)": "不要诗词（诗词通过 npm 下载，85 MB）",
    "a run, or a folder; then lengths are in tokens too": "一个运行或目录；给了它，长度也按词元计",
    "a run, or a folder; default: a byte counts as a token": "一个运行或目录；默认：一个字节算一个词元",
    "tokens; longer rows are counted": "词元数；统计更长的行",
    "tokens; shows what is lost behind": "词元数；标出其后被丢弃的部分",
    "held-out rows; those that stand in both are listed": "验证数据；列出两边都有的行",
    "pretrain, sft, lora, dpo, rl (default: sft)": "pretrain、sft、lora、dpo、rl（默认：sft）",
    "(default: that of the first row, else pretrain)": "（默认：第一行所属的阶段，否则 pretrain）",
    "(default: that of the first row, else sft)": "（默认：第一行所属的阶段，否则 sft）",
    "{formats}, or a folder of such files": "{formats}，或由这类文件组成的文件夹",
    "The stage {stage} is not there yet, but comes; `data check` knows its rows.": "阶段 {stage} 尚未提供，即将推出；"
    "`data check` 已经认识它的数据行。",
    "how many (default: 5)": "多少行（默认：5）",
    "forget an earlier demo": "忘掉之前的演示，从头开始",
    "leave the server running at the end": "结束后保持服务运行",
    "file or folder to read; {counting}": "要读取的文件或目录；{counting}",
    "folder to write; must not exist": "要写入的目录；必须不存在",
    "with the tokenizer.json that belongs to the weights (default: where the weights are)": (
        "含有权重所用 tokenizer.json 的目录（默认：权重所在处）"
    ),
    "upstream's switch for long texts, which a .pth doesn't say; a config.json does": (
        "上游的长文本开关：.pth 里没有记录，config.json 里有"
    ),
    "env prints export lines for `eval`": "env 输出供 `eval` 使用的 export 行",
    "stop: also while runs train on it, without asking": "stop：即使有运行正在训练，也不询问直接停止",
    "Running: {url}": "运行中：{url}",
    "Not running. Start it: minimind cluster start": "未运行。启动：minimind cluster start",
    "These train on it and would end: {names}": "以下运行正在其上训练，会被中断：{names}",
    "Each can go on from its last checkpoint, with `minimind resume NAME`.": (
        "之后可用 `minimind resume 名称` 从最近的检查点继续。"
    ),
    "End them? [y/N] ": "要结束它们吗？[y/N] ",
    "Nothing was stopped. To end them all the same: minimind cluster stop --yes": (
        "没有停止任何东西。仍要结束：minimind cluster stop --yes"
    ),
    "Stopped.": "已停止。",
    "No cluster that was started here is running.": "没有从这里启动的集群在运行。",
    "cpu: very small (default: cuda)": "cpu：规模很小（默认：cuda）",
    "address to listen on (default: {value})": "监听地址（默认：{value}）",
    "answers that one model writes at the same time": "一个模型同时生成的回答数",
    "longest prompt with its answer, in tokens": "提示加回答的最大词元数",
    "auto, float32, bfloat16 or int8: precision of the weights": "auto、float32、bfloat16 或 int8：权重的精度",
    "for weights and KV caches of one replica": "一个副本可用于权重和 KV 缓存的内存",
    "processes with models (default: 1)": "加载模型的进程数（默认：1）",
    "end the server": "停止服务",
    (
        "A key that clients must send: MINIMIND_API_KEY, or a file named in MINIMIND_API_KEY_FILE. "
        "It is needed where --host lets others in."
    ): (
        "客户端须提供的密钥：环境变量 MINIMIND_API_KEY，或由 MINIMIND_API_KEY_FILE 指定的文件。"
        "--host 允许他人访问时必须设置。"
    ),
    (
        "a run, run@step, run@latest, run@best, or a checkpoint's ./folder (default: the newest that "
        "has learnt to answer)"
    ): ("一个运行、运行@步数、运行@latest、运行@best，或检查点的 ./目录（默认：最新的、学会了回答的）"),
    "a server (default: the running one; without one the model is loaded here)": (
        "服务地址（默认：正在运行的服务；没有则在本进程加载模型）"
    ),
    "0 always takes the likeliest word, 2 is the wildest (default: auto, what the model's checkpoint says)": (
        "0 总选最可能的词，2 最随意（默认：auto，用模型检查点自带的值）"
    ),
    "come back when it has ended": "等到停下后再返回",
    (
        "{name} stops at its next step and saves a checkpoint. Go on: minimind resume {name} (when "
        "`minimind runs` says that it has stopped; stop --wait waits for it)"
    ): (
        "{name} 会在下一步停下并保存检查点。继续：minimind resume {name}（等 `minimind runs` "
        "显示已停止；stop --wait 会一直等到停下）"
    ),
    (
        "{name} begins no more trials; those that run go to their end. To end them too, once more. "
        "Go on: minimind resume {name}"
    ): ("{name} 不再开始新的试验；正在运行的会做完。要一并结束，请再执行一次。继续：minimind resume {name}"),
    (
        "{name} stops as soon as its workers are back, with a checkpoint. To end its job at once: "
        "minimind stop {name} again. Go on: minimind resume {name}"
    ): (
        "{name} 会在进程恢复后停下并保存检查点。要立即结束任务，请再执行一次 minimind stop {name}。"
        "继续：minimind resume {name}"
    ),
    "{name} was stopping; its job {job} is {status}.": "{name} 原本正在停止；其任务 {job} 的状态是 {status}。",
    "{name} has begun no training; its job {job} is {status}.": (
        "{name} 还没有开始训练；其任务 {job} 的状态是 {status}。"
    ),
    "{name} has stopped. Go on: minimind resume {name}": "{name} 已停止。继续：minimind resume {name}",
    "Still waiting for the step and the checkpoint of {name} ...": "仍在等待 {name} 的这一步和检查点……",
    "No job of {name!r} is on the cluster, which forgets them when it ends. The run itself:": (
        "集群上没有 {name!r} 的任务（集群结束时会忘掉它们）。下面是运行本身："
    ),
    "No job of {name!r} is on the cluster. What it has written down itself:": (
        "集群上没有 {name!r} 的任务。下面是它自己记录的内容："
    ),
    "{missing}. Nor can a job be looked for: {error}": "{missing}。也无法查找任务：{error}",
    "no job or run {name!r} on the cluster; it has: {names}": "集群上没有任务或运行 {name!r}；有的是：{names}",
    "the last lines (default: 50)": "最后多少行（默认：50）",
    "go on with what comes, until the job ends": "继续跟随新的输出，直到任务结束",
    "without asking": "不询问",
    "also one whose weights or tokenizer others were made from": "即使其他运行用到它的权重或分词器",
    (
        "{names} began with what is in {name}: an adapter needs it to be loaded, and a run that has "
        "no checkpoint yet to go on. To remove it all the same: minimind rm {name} --needed"
    ): (
        "{names} 以 {name} 的内容为起点：适配器加载时需要它，还没有检查点的运行继续时也需要它。"
        "仍要删除：minimind rm {name} --needed"
    ),
    "Remove it? [y/N] ": "要删除吗？[y/N] ",
    "Nothing was removed. To remove it without being asked: minimind rm {name} --yes": (
        "没有删除任何东西。不询问直接删除：minimind rm {name} --yes"
    ),
    "Removed {name}; {bytes} are free again.": "已删除 {name}，释放了 {bytes}。",
    "it is --learning_rate": "这里叫 --learning_rate",
    "it is --tokenizer, a run or ./folder": "这里叫 --tokenizer，取一个运行或 ./目录",
    "a run is named with --name": "运行用 --name 命名",
    "a GPU is taken where there is one; none: --set scaling.gpus_per_worker=0": (
        "有 GPU 就会用；不用 GPU：--set scaling.gpus_per_worker=0"
    ),
    "curves: minimind show RUN; for TensorBoard they lie in the run's folder": (
        "曲线：minimind show 名称；TensorBoard 文件在运行的目录里"
    ),
    "mixtures of experts are not there yet": "混合专家（MoE）还没有实现",
    "processes that train together: --workers N": "一起训练的进程数：--workers N",
    "runs lie in $MINIMIND_HOME/runs; another place: export MINIMIND_HOME=/there": (
        "运行保存在 $MINIMIND_HOME/runs；换地方：export MINIMIND_HOME=/别处"
    ),
    "weights to begin with are --from_weight RUN": "初始权重用 --from_weight 名称",
    "weights to begin with are --from_weight RUN; a model to talk with: minimind chat RUN": (
        "初始权重用 --from_weight 名称；要对话的模型：minimind chat 名称"
    ),
    # names of upstream
    "length and steps": "训练长度与步数",
    "{name} is called `{here}` here.": "{name} 在这里叫 `{here}`。",
    "The stage {name} is called {here} here.": "阶段 {name} 在这里叫 {here}。",
    "--weight {name} is `minimind chat {here}` here.": "--weight {name} 在这里写作 `minimind chat {here}`。",
    " It will be called {stage}.": "到时叫 {stage}。",
    "{name} is not there yet, it comes.{called} The stages there are: {stages}; README.md says what is next": (
        "{name} 还没有实现，以后会有。{called}现有的阶段：{stages}；后续计划见 README_zh.md"
    ),
    "the nearest is {size}; ": "最接近的是 {size}；",
    (
        "{text!r} is no size, hidden x layers: {near}there are {sizes}; any other by --hidden_size "
        "and --num_hidden_layers"
    ): ("没有 {text!r} 这个大小（宽度 x 层数）：{near}可选 {sizes}；其他大小用 --hidden_size 和 --num_hidden_layers"),
    # jobs
    "Submitted {job}: {words}": "已提交 {job}：{words}",
    "It runs on its own. Watch it: minimind attach {name}. End it: minimind stop {name}": (
        "它会自行运行。查看：minimind attach {name}。停止：minimind stop {name}"
    ),
}
