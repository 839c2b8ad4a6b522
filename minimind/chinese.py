"""What `minimind` says, in Chinese."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    (
        "No prompt of {count} has signal: all answers to one are worth the same, so there is nothing "
        "to learn from comparing them."
    ): ("{count} 个问题都没有信号：同一个问题的回答全都一样好，比较它们学不到什么。"),
    "Always right, {count} prompts: too easy. Take harder ones.": "{count} 个问题总是答对：太容易。请换更难的。",
    (
        "Never right, {count} prompts: too hard. More SFT comes first, or easier prompts, or a reward "
        "that a wrong answer earns in part, by further terms such as format or language."
    ): (
        "{count} 个问题从未答对：太难。先多做 SFT，或换更容易的问题，或用答错也能得到一部分的奖励：再加上 "
        "format、language 这样的项。"
    ),
    (
        "Worth the same, right or wrong, {count} prompts: the terms of the reward cancel each other, weigh "
        "nothing, or ask for what every answer has or none."
    ): "{count} 个问题的回答无论对错，分数都一样：奖励的各项互相抵消，权重为零，或者所奖励的每个回答都有、或都没有。",
    "{text}: not JSON ({error})": "{text}：不是 JSON（{error}）",
    (
        "{where}: the reward {names} compares with the right answer, and this row has none ({count:,} "
        "of {rows:,} rows). Leave such rows out, or name rewards that need none, such as {others}"
    ): (
        "{where}：奖励 {names} 要与正确答案比较，而这一行没有（{rows:,} 行中有 {count:,} 行）。请去掉这些行，"
        "或改用不需要正确答案的奖励，例如 {others}"
    ),
    (
        "{name} is 0 at most, and what says whether an answer is right gives 1 for that: name another term "
        "first, such as {others}"
    ): "{name} 最多得 0 分，而决定回答对不对的那一项，答对要给 1 分：请把别的项放在第一位，例如 {others}",
    # settings
    "Field required": "缺少这一项",
    "Input should be a finite number": "应为有限的数",
    "Input should be a valid boolean, unable to interpret input": "应为 0 或 1（真或假）",
    "Input should be a valid integer, unable to parse string as an integer": "应为整数",
    "Input should be a valid number, unable to parse string as a number": "应为数字",
    "Input should be a valid string": "应为文本",
    "a whole number is expected, without quotes": "应为整数，不加引号",
    "a number is expected, without quotes": "应为数字，不加引号",
    "true or false is expected, without quotes": "应为 true 或 false，不加引号",
    "at least {min_length} of them are needed": "至少要有 {min_length} 个",
    "at least {min_length} characters are needed": "至少要有 {min_length} 个字符",
    "a list in JSON is expected, in square brackets, with double quotes around texts": (
        "应为 JSON 列表：写在方括号里，文本用英文双引号"
    ),
    "an object in JSON is expected, in braces, with double quotes around names and texts": (
        "应为 JSON 对象：写在花括号里，名称和文本用英文双引号"
    ),
    "Input should be greater than or equal to {ge}": "应大于或等于 {ge}",
    "Input should be greater than {gt}": "应大于 {gt}",
    "Input should be less than or equal to {le}": "应小于或等于 {le}",
    "Input should be less than {lt}": "应小于 {lt}",
    "Input should be {expected}": "应为 {expected}",
    "names there: {names}": "那里有：{names}",
    "there is no such setting": "没有这个配置项",
    "{path}: no setting {name!r} at the top level; {hint}": "{path}：最上层没有配置项 {name!r}；{hint}",
    "{path}: no setting {name!r} in {section!r}; {hint}": "{path}：{section!r} 里没有配置项 {name!r}；{hint}",
    "{section!r} is a single value ({value!r}) and has no parts": "{section!r} 是单个值（{value!r}），没有下级",
    "none": "无",
    # units
    "{text!r} is no size of memory: write a number and GB or MB, such as 8GB, 7.5GB or 512MB": (
        "{text!r} 不是内存大小：请写数字加 GB 或 MB，例如 8GB、7.5GB 或 512MB"
    ),
    # memory that runs out
    "at most 1 row at once from now on, with as many rows per step as before": (
        "此后每次只计算 1 行，每步的总行数不变"
    ),
    "at most {count} rows at once from now on, with as many rows per step as before": (
        "此后每次最多计算 {count} 行，每步的总行数不变"
    ),
    "activations are computed again in the backward pass from now on (activation checkpointing)": (
        "此后启用激活检查点（反向传播时重新计算激活值）"
    ),
    (
        "rows are cut to {tokens} tokens from now on (allow_shorter): a document that crosses a cut is read in two "
        "pieces"
    ): ("此后每行截为 {tokens} 个词元（allow_shorter），跨越截断处的文档分两段读取"),
    "batches are no longer prepared ahead": "不再提前准备批次",
    "rows of {width} tokens": "{width} 个词元的行",
    "not tried: shorter rows (--set loop.allow_shorter=true, in a new run)": (
        "没有试过更短的行（在新的训练里加上 --set loop.allow_shorter=true）"
    ),
    "out of memory with every means tried: one row at once, activation checkpointing; {shorter}. {cause}. {advice}": (
        "内存不足，所有办法都试过了：每次一行、激活检查点；{shorter}。{cause}。{advice}"
    ),
    "out of memory while a batch was made, with every means tried. {cause}. {advice}": (
        "生成批次时内存不足，所有办法都试过了。{cause}。{advice}"
    ),
    (
        "What helps: a smaller model (--model), an adapter in place of all weights (the stage lora), shorter rows "
        "(--max_seq_len), and closing other programs that use the same memory"
    ): (
        "可以这样做：换更小的模型（--model），只训练适配器（lora 阶段），缩短每行（--max_seq_len），"
        "或关闭占用同一内存的其他程序"
    ),
    "out of memory {where}. {error}. {advice}": "{where}内存不足。{error}。{advice}",
    "in the optimizer's step, which cannot be taken again": "在优化器更新时（这一步不能重来）",
    "in the optimizer's step, which cannot be taken again; the last checkpoint is good": (
        "在优化器更新时（这一步不能重来；上一个检查点完好）"
    ),
    "out of memory after step {step}, and loop.out_of_memory = fail. {cause}": (
        "第 {step} 步之后内存不足，而 loop.out_of_memory = fail。{cause}"
    ),
    "out of memory after step {step}: {change}": "第 {step} 步之后内存不足：{change}",
    # steps that are refused
    (
        "step {step}: the loss or its gradient was not a number in {count} steps in a row (max_bad_steps = "
        "{most}){kept}. Lower --learning_rate, try --dtype bfloat16 or float32, and look at the rows that the notes in "
        "events.jsonl name."
    ): (
        "第 {step} 步：损失或梯度连续 {count} 步不是数（max_bad_steps = {most}）{kept}。请降低 --learning_rate，试试 "
        "--dtype bfloat16 或 float32，并查看 events.jsonl 里记下的那些行。"
    ),
    "; the last checkpoint is good": "；上一个检查点完好",
    ", and there is no checkpoint yet": "，还没有检查点",
    "after step {step}: the loss is not a number; the step is skipped": "第 {step} 步之后：损失不是数，跳过这一步",
    "after step {step}: its gradient is not a number; the step is skipped": (
        "第 {step} 步之后：梯度不是数，跳过这一步"
    ),
    " and the float16 loss scale {scale} halved (normal in the first steps)": (
        "，float16 的损失缩放 {scale} 减半（最初几步里属于正常）"
    ),
    "\n  ... and {count} more": ("\n  …… 还有 {count} 个"),
    "\nGive the configuration that the weights were trained with, or other weights.": (
        "\n请给出训练这些权重时的配置，或换别的权重。"
    ),
    "; and {count} more": ("；还有 {count} 处"),
    "after {before}": ("在 {before} 之后"),
    "at the beginning": ("在开头"),
    "checkpoints beside it: {near}": ("旁边的检查点有：{near}"),
    "config.json cannot be read as a dense Qwen3 model:\n": ("config.json 不能当作稠密的 Qwen3 模型读取：\n"),
    (
        "config.json: model_type = {model_type!r} is another architecture; only dense models of the types 'qwen3' "
        "and 'minimind' (upstream MiniMind with q_norm and k_norm) can be read"
    ): (
        "config.json：model_type = {model_type!r} 是另一种结构；只能读取 'qwen3' 和 'minimind' 类型的稠密模型"
        "（带 q_norm 和 k_norm 的上游 MiniMind）"
    ),
    "config.json: {error}": ("config.json：{error}"),
    "each is named once, and at least one": ("每个只写一次，且至少写一个"),
    "fails with {type}": ("出错（{type}）"),
    (
        "inference_rope_scaling = {switch!r} and rope type = {kind!r}: upstream computes without scaling then; "
        "set inference_rope_scaling to true, or rope_scaling to null"
    ): (
        "inference_rope_scaling = {switch!r} 而 rope 类型 = {kind!r}：此时上游计算时并不缩放；请把 "
        "inference_rope_scaling 设为 true，或把 rope_scaling 设为 null"
    ),
    "is a {type}": ("是 {type}"),
    "layer_types = {layer_types!r}: only 'full_attention' can be read": (
        "layer_types = {layer_types!r}：只能读取 'full_attention'"
    ),
    (
        "loop.deterministic = true, and the step has an operation that cannot be repeated to the last bit: {error} "
        "To train without that promise: --set loop.deterministic=false"
    ): (
        "loop.deterministic = true，但这一步里有无法逐位重现的运算：{error} "
        "不要求逐位重现：--set loop.deterministic=false"
    ),
    "messages: the chat template that came with this model {what}: {error}": (
        "messages：随模型而来的对话模板{what}：{error}"
    ),
    "no such map: {unknown}": ("没有这个线性层：{unknown}"),
    "no text to train a tokenizer on: every text was empty, or there was none": (
        "没有可用来训练分词器的文本：没有文本，或全是空的"
    ),
    "no tokenizer at {file}: train one with the tokenizer stage, or give its folder": (
        "{file} 没有分词器：请用 tokenizer 阶段训练一个，或给出它所在的目录"
    ),
    "not the weights of a MiniMind model:\n": ("不是 MiniMind 模型的权重：\n"),
    "refuses it": ("不接受这段对话"),
    "rope settings {unknown} of type {kind!r} are not known here": ("不认识 {kind!r} 类型的 rope 设置 {unknown}"),
    "rope type = {kind!r}: only 'default' and 'yarn' can be read": (
        "rope 类型 = {kind!r}：只能读取 'default' 和 'yarn'"
    ),
    "rope_theta is missing, both by itself and in rope_parameters": (
        "缺少 rope_theta：单独没有，rope_parameters 里也没有"
    ),
    (
        "text can't be encoded: character {start} is half a surrogate pair ({text!r}); remove it, or write the "
        "whole character"
    ): ("文本无法编码：第 {start} 个字符是半个代理对（{text!r}）；请删掉它，或写出完整的字符"),
    (
        "the chat template that came with this tokenizer wrote {turns} turns that begin with {bos_token}assistant "
        "for {count} answers, so what is to be learnt can't be told. Remove chat_template from tokenizer_config.json "
        "(and chat_template.jinja) to train with MiniMind's own template"
    ): (
        "这个分词器自带的对话模板为 {count} 个回答写了 {turns} 个以 {bos_token}assistant 开头的轮次，无法判断要"
        "学什么。请从 tokenizer_config.json 去掉 chat_template（以及 chat_template.jinja），改用 MiniMind 自己"
        "的模板训练"
    ),
    (
        "the checkpoint of step {step} could not be written to {partial}: {error}. {free} are free there. Older "
        "checkpoints are untouched: make room (or see to the disk) and resume the run from the newest of them."
    ): (
        "第 {step} 步的检查点无法写入 {partial}：{error}。那里剩余 {free}。旧的检查点没有动：请腾出空间（或检"
        "查磁盘），再从最新的检查点继续运行。"
    ),
    (
        "the checkpoint of step {step} needs {needed} ({needed2} bytes), but the disk of {root} has {free} ({free2} "
        "bytes) free. Older checkpoints are untouched: make room, or keep fewer checkpoints, and resume the run"
    ): (
        "第 {step} 步的检查点需要 {needed}（{needed2} 字节），但 {root} 所在磁盘只剩 {free}（{free2} 字节）。"
        "旧的检查点没有动：请腾出空间，或少保留几个检查点，再继续运行"
    ),
    "the model has an adapter already: detach it first, or take its weights with `merge`": (
        "模型已经有适配器：请先卸下，或用 `merge` 合并其权重"
    ),
    "the model has no adapter: attach one first": ("模型没有适配器：请先装上一个"),
    "the shapes make no model: {error}": ("这些形状组不成模型：{error}"),
    "the weights are not those of a dense model with {described}\n": ("这些权重不属于 {described} 的稠密模型\n"),
    "the weights of step {step}": ("第 {step} 步的权重"),
    "the weights of {place} have the sha256 {weights}": ("{place} 的权重的 sha256 是 {weights}"),
    "the weights of {where}": ("{where} 的权重"),
    "there is no checkpoint folder {where}; {there}": ("没有检查点目录 {where}；{there}"),
    (
        "there is no self_attn.q_norm.weight: these are weights of MiniMind 2 or another Llama-like model without "
        "norms on queries and keys, which this model cannot compute; only weights of the present layout can be "
        "read"
    ): (
        "没有 self_attn.q_norm.weight：这是 MiniMind 2 或其他类 Llama 模型的权重，查询和键上没有归一化，本模型"
        "无法计算；只能读取现在的结构"
    ),
    (
        "these weights are not of the adapter that the model has: {wrong}{more}. Rank and target modules must "
        "be those it was trained with"
    ): ("这些权重不属于模型现有的适配器：{wrong}{more}。秩和目标模块必须与训练时相同"),
    "token id {token_id} is not in the vocabulary: allowed are 0 to {vocab_size}": (
        "词元编号 {token_id} 不在词表里：允许 0 到 {vocab_size}"
    ),
    "turn {number} is {role} {where}; allowed there: {may_follow}": (
        "第 {number} 轮{where}是 {role}；那里允许的是：{may_follow}"
    ),
    (
        "vocab_size = {vocab_size}: at least {least} are needed ({count} special tokens and 256 bytes); MiniMind "
        "uses 6400"
    ): ("vocab_size = {vocab_size}：至少需要 {least}（{count} 个特殊词元和 256 个字节）；MiniMind 用 6400"),
    "{file} cannot be read as a manifest, it is damaged ({error!r})": ("{file} 不能作为清单读取，已损坏（{error!r}）"),
    "{file} cannot be read: {error}": ("{file} 无法读取：{error}"),
    (
        "{file} has schema_version {version!r}; this program reads {schema_version}: use the version of this "
        "program that wrote it"
    ): ("{file} 的 schema_version 是 {version!r}，本程序读取 {schema_version}：请用写它的程序版本"),
    "{file} holds no JSON object": ("{file} 里不是 JSON 对象"),
    "{file} is damaged: its sha256 is {actual}, {digest} was written": (
        "{file} 已损坏：sha256 是 {actual}，写入时是 {digest}"
    ),
    (
        "{file}: chat_template: {what}; one template as text is needed. Of several, leave the one that conversations "
        "are to be written with"
    ): ("{file}：chat_template：{what}；需要一个文本形式的模板。有多个时，请留下写对话要用的那个"),
    "{file}: not a tokenizer.json (a JSON object is expected)": ("{file}：不是 tokenizer.json（应为 JSON 对象）"),
    "{file}: not a tokenizer.json ({error})": ("{file}：不是 tokenizer.json（{error}）"),
    "{file}: not a tokenizer_config.json ({error})": ("{file}：不是 tokenizer_config.json（{error}）"),
    "{file}: {error}; correct it, or take it out": ("{file}：{error}；请改正或去掉"),
    "{file}: {name} = {value!r} is not a number; correct it, or take it out": (
        "{file}：{name} = {value!r} 不是数字；请改正或去掉"
    ),
    "{folder}: holds neither model.safetensors nor pytorch_model.bin, whole or in shards": (
        "{folder}：没有 model.safetensors，也没有 pytorch_model.bin（完整或分片）"
    ),
    "{found} belongs to a LoRA adapter; merge it into its base model first and read that": (
        "{found} 属于 LoRA 适配器；请先合并进底座模型，再读取合并后的模型"
    ),
    "{found} belongs to a mixture of experts; only dense models can be read": (
        "{found} 属于混合专家模型；只能读取稠密模型"
    ),
    (
        "{found} is a name of MiniMind's first layout (before April 2025), whose rotary embedding differs as "
        "well; only the present layout (model.layers.0.self_attn.q_proj.weight, ...) can be read"
    ): (
        "{found} 是 MiniMind 最早结构（2025 年 4 月之前）的名称，旋转位置编码也不同；"
        "只能读取现在的结构（model.layers.0.self_attn.q_proj.weight "
        "等）"
    ),
    "{head} differs from {embedding}: this model needs tie_word_embeddings = false": (
        "{head} 与 {embedding} 不同：本模型需要 tie_word_embeddings = false"
    ),
    "{index}: names files that are not there: {missing}": ("{index}：列出的文件不存在：{missing}"),
    "{index}: not an index of shards ({error!r})": ("{index}：不是分片索引（{error!r}）"),
    "{names} has the shape {shape}": ("{names} 的形状是 {shape}"),
    "{names} has {shapes} rows, which heads of width {head_dim} do not divide": (
        "{names} 有 {shapes} 行，不能按宽度为 {head_dim} 的头整除"
    ),
    "{name} = {values!r}: only {only!r} can be read": ("{name} = {values!r}：只能读取 {only!r}"),
    "{name} is missing": ("缺少 {name}"),
    "{name} is not part of it": ("{name} 不属于它"),
    "{name} is not part of the model": ("{name} 不属于这个模型"),
    "{name} is {actual} in the checkpoint and {expected} in this run": (
        "{name} 在检查点里是 {actual}，在这次运行里是 {expected}"
    ),
    "{name}: {found} in the file, {shape} in the model": ("{name}：文件里是 {found}，模型里是 {shape}"),
    "{others} stands beside it": ("旁边还有 {others}"),
    "{parent} holds no checkpoint": ("{parent} 里没有检查点"),
    "{path} has the key {key!r} of type {type}; only str and int keep": (
        "{path} 的键 {key!r} 类型是 {type}；只能保存 str 和 int"
    ),
    (
        "{path} is a {module}.{type}, which cannot be loaded safely; a checkpoint keeps dict, list, tuple, str, "
        "int, float, bool, None and tensors"
    ): ("{path} 是 {module}.{type}，无法安全加载；检查点只保存 dict、list、tuple、str、int、float、bool、None 和张量"),
    (
        "{path}: holds more than tensors and plain values, or is no PyTorch file, and is not opened: loading "
        "it could run code. Save `model.state_dict()` alone with torch.save"
    ): (
        "{path}：除张量和普通值外还有别的内容，或不是 PyTorch 文件，因此不打开：加载它可能会执行代码。请只用 "
        "torch.save 保存 `model.state_dict()`"
    ),
    "{path}: must hold a JSON object, not {type}": ("{path}：应为 JSON 对象，而不是 {type}"),
    "{path}: must hold a state dict (names to tensors), not {type}": (
        "{path}：应为 state dict（名称到张量），而不是 {type}"
    ),
    "{path}: no such file or folder": ("{path}：没有这个文件或目录"),
    "{path}: no such file; a Hugging Face folder holds one": ("{path}：没有这个文件；Hugging Face 目录里应该有"),
    "{path}: not JSON: {error}": ("{path}：不是 JSON：{error}"),
    "{path}: not a readable PyTorch file: {error}": ("{path}：不是可读的 PyTorch 文件：{error}"),
    "{path}: not a readable safetensors file: {error}": ("{path}：不是可读的 safetensors 文件：{error}"),
    "{twice} stands there with and without its prefix: keep one of the two": (
        "{twice} 带前缀和不带前缀各有一份：请只留一份"
    ),
    (
        "{what} {weights_sha256}; it is in none of {str}. Copy it to one of these places: without its base an "
        "adapter is not a model"
    ): ("{what} {weights_sha256}；在 {str} 都找不到。请把它复制到其中一处：没有底座，适配器就不是模型"),
    (
        "{what} {weights_sha256}; {found}. On other weights the adapter would compute nonsense: bring the old "
        "checkpoint back, or train the adapter anew on the one that is there"
    ): (
        "{what} {weights_sha256}；{found}。在别的权重上，适配器算出的结果毫无意义：请找回原来的检查点，或在现"
        "有的检查点上重新训练适配器"
    ),
    "{where} do not fit the model configuration: {wrong}{more}": ("{where}与模型配置不符：{wrong}{more}"),
    (
        "{where} has no {manifest}, so it is not a complete checkpoint of this system (a Hugging Face folder "
        "or an upstream file must be imported by `minimind convert` first)"
    ): ("{where} 没有 {manifest}，不是本系统的完整检查点（Hugging Face 目录或上游文件须先用 `minimind convert` 导入）"),
    (
        "{where} is a checkpoint of another model: {differences}. Set the model to the checkpoint's, or start "
        "from another checkpoint"
    ): ("{where} 是另一个模型的检查点：{differences}。请把模型设为与检查点一致，或换一个检查点"),
    "{where} is an adapter for step {step} of the run {run_id!r}, whose weights have the sha256": (
        "{where} 是适配器，属于运行 {run_id!r} 的第 {step} 步，底座权重的 sha256 是"
    ),
    (
        "{where} is an adapter, and an adapter needs a whole model below it: take its base, step {step} of the "
        "run {run_id!r} in {folder}, or train all weights from the adapter"
    ): (
        "{where} 是适配器，而适配器下面要有完整的模型：请用它的底座（运行 {run_id!r} 的第 {step} 步，在 {folder}）"
        "，或从适配器出发训练全部权重"
    ),
    "{where} is no adapter: it has a whole model, and no base": ("{where} 不是适配器：它是完整的模型，没有底座"),
    (
        "{where} was made with another tokenizer: its fingerprint is {other_fingerprint}, this one's is {fingerprint}. "
        "Ids mean other text there. Use the tokenizer it was made with, or make it again with this one."
    ): (
        "{where} 是用另一个分词器做的：它的指纹是 {other_fingerprint}，这个是 {fingerprint}，词元编号的含义不"
        "同。请用当时的分词器，或用这个分词器重做。"
    ),
    "{where}: architectures = {names!r}; this program reads {architectures}": (
        "{where}：architectures = {names!r}；本程序读取 {architectures}"
    ),
    "{where}: its normalizer ({kind}) changes text, so text would not come back as it was": (
        "{where}：它的规范化（{kind}）会改动文本，文本无法原样还原"
    ),
    "{where}: its token {name!r} takes the white space beside it, so text would not come back": (
        "{where}：它的词元 {name!r} 会吞掉旁边的空白，文本无法原样还原"
    ),
    "{where}: its vocabulary has no token for the bytes {lost}; text with them would be lost": (
        "{where}：它的词表没有表示字节 {lost} 的词元；含这些字节的文本会丢失"
    ),
    "{where}: lacks the control tokens {missing}; train one, or add them to it": (
        "{where}：缺少控制词元 {missing}；请训练一个，或把它们加进去"
    ),
    "{where}: not a byte-level BPE tokenizer (model type {get!r}); train one": (
        "{where}：不是字节级 BPE 分词器（模型类型 {get!r}）；请训练一个"
    ),
    "{where}: {name} has {actual} bytes, {bytes} were written": (
        "{where}：{name} 有 {actual} 字节，写入时是 {bytes} 字节"
    ),
    (
        "{where}: {name} is damaged: sha256 is {digest}, {sha256} was written. Take another checkpoint, or copy "
        "this one again from where it came"
    ): ("{where}：{name} 已损坏：sha256 是 {digest}，写入时是 {sha256}。请换一个检查点，或从来源重新复制"),
    "{where}: {name} is missing; the manifest lists it with {bytes} bytes": (
        "{where}：缺少 {name}；清单里记录它有 {bytes} 字节"
    ),
    "{wrong}; there are {targets}": ("{wrong}；可选：{targets}"),
    # checks of answers
    "checker": "检查",
    '{value!r} is no {what}: {{"is": NAME, ...}} is; names: {names}': (
        '{value!r} 不是{what}：应写成 {{"is": 名称, ...}}；名称有：{names}'
    ),
    "no {what} {name!r}{near}; there are: {names}": "没有{what} {name!r}{near}；可用的有：{names}",
    "{what} {name}: no argument {argument!r}{near}; allowed are: {names}": (
        "{what} {name}：没有参数 {argument!r}{near}；可用的有：{names}"
    ),
    "{what} {name}: {problem}": "{what} {name}：{problem}",
    " (did you mean {name}?)": "（是否想写 {name}？）",
    "a row without checks has no score": "没有检查项的行无法评分",
    "give texts in `any` or in `all`": "请在 `any` 或 `all` 里给出文本",
    "give `least`, `most` or both": "请给出 `least`、`most` 或两者",
    "least = {least} is more than most = {most}": "least = {least} 大于 most = {most}",
    "a pattern of {length} characters; at most {most} are allowed": "表达式有 {length} 个字符，最多允许 {most} 个",
    "{source!r} is no regular expression: {error}": "{source!r} 不是正则表达式：{error}",
    "{source!r} is too large: with its repetitions written out it has more than {most} steps": (
        "{source!r} 太大：把重复部分展开后超过 {most} 步"
    ),
    "{source!r}: more than {most} groups in each other": "{source!r}：分组嵌套超过 {most} 层",
    (
        "{source!r}: {what} is not allowed here; a check has characters, classes, groups, |, * + ? {{n}}, "
        "^ $ \\b and the flags (?i) (?m) (?s) at its beginning"
    ): (
        "{source!r}：这里不允许 {what}；检查的表达式可以有字符、字符类、分组、|、* + ? {{n}}、^ $ \\b，"
        "以及开头的 (?i) (?m) (?s)"
    ),
    # rewards
    "reward term": "奖励项",
    "tool": "工具",
    "tool {name}: {path}: {problem}": "工具 {name}：{path}：{problem}",
    "two tools are called {name}: give one of them another name": "有两个工具都叫 {name}：给其中一个换个名字",
    "line {line} has no {column!r}; it has {names}": "第 {line} 行没有 {column!r}；有的是 {names}",
    "line {line} has an empty key": "第 {line} 行的键是空的",
    "lines {first} and {line} have the same key, {key!r}: keep one of them": (
        "第 {first} 行和第 {line} 行的键相同，都是 {key!r}：只留一行"
    ),
    "it has no rows": "里面没有行",
    "line {line} has another number of columns than the first": "第 {line} 行的列数和第一行不同",
    "line {line} is no JSON object; a table is a .csv file, or objects, one a line": (
        "第 {line} 行不是 JSON 对象；表格是 .csv 文件，或者每行一个对象"
    ),
    "it can't be read: {error}": "无法读取：{error}",
    "no row has {column!r}; there are {names}": "没有一行有 {column!r}；有的是 {names}",
    (
        "stage.tool_tokens = {count}: the template's words around a tool's answer are {least} tokens with this "
        "tokenizer; give more"
    ): "stage.tool_tokens = {count}：用这个分词器，模板在工具回答前后的文字就有 {least} 个词元；请设大一些",
    "a reward has at least one term; there are: {names}": "奖励至少要有一项；可用的有：{names}",
    "a tag's name is written without brackets, in letters and digits, such as answer": (
        "标签名不带尖括号，由字母和数字组成，例如 answer"
    ),
    "tags = {tags}: each part is named once": "tags = {tags}：每个部分只写一次",
    "the row has no right answer to compare with": "这一行没有可比较的正确答案",
    "the right answer {reference!r} has no number": "正确答案 {reference!r} 里没有数",
    "the score {score:g} is no number that can be used": "分数 {score:g} 不是可用的数",
    "url = {url!r}: write where the endpoint is, such as http://127.0.0.1:8000/v1": (
        "url = {url!r}：请写出接口的地址，例如 http://127.0.0.1:8000/v1"
    ),
    "question: there is no {name!r} to put in{near}; there are: {names}": (
        "question：没有可填入的 {name!r}{near}；可用的有：{names}"
    ),
    "question: there is no {answer} in it, so the judge would not see what it judges": (
        "question：里面没有 {answer}，评判模型就看不到要评判的回答"
    ),
    (
        "url: it is http://HOST:PORT/PATH, without a user, a password, a query or a #; the key stands in "
        "MINIMIND_API_KEY"
    ): "url：应为 http://主机:端口/路径，不带用户名、密码、查询参数和 #；密钥放在 MINIMIND_API_KEY 里",
    "it has {count} tokens; the model reads {most}": "它有 {count} 个词元；模型最多读 {most} 个",
    (
        "the reward {name} could not judge {failed} of {count} answers, which it neither rewards nor punishes: "
        "{problem}"
    ): "奖励 {name} 没能评出 {count} 个回答中的 {failed} 个，对这些不奖也不罚：{problem}",
    "scale = {least:g}, {most:g}: the least comes first": "scale = {least:g}, {most:g}：应先写最小值",
    "the judge replied {reply!r}, which has no number from {least:g} to {most:g}": (
        "评判模型回复了 {reply!r}，其中没有 {least:g} 到 {most:g} 的数"
    ),
    (
        "function = {function!r}: write module:function, such as my_rewards:score for the function score "
        "of my_rewards.py"
    ): "function = {function!r}：请写成 模块:函数，例如 my_rewards:score 指 my_rewards.py 里的函数 score",
    "function = {function!r}: {problem}": "function = {function!r}：{problem}",
    "{folder} is no folder": "{folder} 不是目录",
    "there is no module {name!r} in {folder} or PYTHONPATH{near}; modules there: {names}": (
        "{folder} 和 PYTHONPATH 里都没有模块 {name!r}{near}；目录里的模块有：{names}"
    ),
    "{file} has no function {name!r}{near}; functions there: {names}": (
        "{file} 里没有函数 {name!r}{near}；其中的函数有：{names}"
    ),
    "the module cannot be imported: {error}": "模块无法导入：{error}",
    "its process cannot be started: {error}": "它的进程无法启动：{error}",
    "it raised {error}": "它抛出了 {error}",
    "; it may use {count} MiB (memory_mb)": "；它最多可用 {count} MiB（memory_mb）",
    "it gave {value} for an answer; a finite number is expected": "它对一个回答给出 {value}；应为有限的数",
    "it gave {given} scores for {count} answers": "它给出 {given} 个分数，而回答有 {count} 个",
    "it gave a value of the type {type}; a list of numbers is expected": "它返回的类型是 {type}；应为由数组成的列表",
    "it wrote into the pipe of its process's answers, or closed it": "它写入或关闭了进程的应答管道",
    "it took more than {seconds:g} s": "它用时超过 {seconds:g} 秒",
    "it printed more than {count:,} bytes": "它打印了超过 {count:,} 字节",
    "it took more than {seconds:g} s of processor time (cpu_s)": "它用的处理器时间超过 {seconds:g} 秒（cpu_s）",
    "its process ended ({how})": "它的进程结束了（{how}）",
    "its process ended ({how}), and had printed: {last}": "它的进程结束了（{how}），之前输出过：{last}",
    "signal {name}": "信号 {name}",
    "exit code {code}": "退出码 {code}",
    # what is wrong with an answer
    "It says nothing.": "什么也没说。",
    "It does not come to an end: it was cut off.": "没有自己结束，被截断了。",
    "It says the same again and again.": "反复说同样的话。",
    "It is in the other language than was asked for.": "用的不是要求的语言。",
    "It holds a broken character.": "有残缺的字符。",
    "It shows a tag that belongs to the format of a conversation, not to its text.": "露出了对话格式的标记。",
    "It calls a tool in a form that cannot be read.": "调用工具的格式无法读取。",
    "It repeats the question, or copies the text it was given.": "重复了问题，或照抄了给出的文字。",
    "It holds control characters, which nobody can see.": "含有看不见的控制字符。",
    # durations, errors, notes
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
    "{days} d {hours} h": "{days} 天 {hours} 小时",
    "{seconds} s": "{seconds} 秒",
    "bytes": "字节",
    "nothing": "无",
    "{name} = {value!r}: there are {names}": "{name} = {value!r}：可选 {names}",
    "{asked} more were asked for with {held} in use: the limit is {limit}": (
        "已用 {held}，还要再用 {asked}：上限是 {limit}"
    ),
    "the model's logits are not finite: its weights are damaged, or training has diverged": (
        "模型的输出不是有限的数：权重已损坏，或训练已发散"
    ),
    "missing": "缺少",
    "unexpected": "多余",
    "of the wrong shape": "形状不对",
    "not floating point": "不是浮点数",
    "with values that are not finite": "含有非有限的值",
    "found": "文件里有",
    "{count} {what}:": "{what}（{count} 个）：",
    "{name} is {found}, the model's is {shape}": "{name} 是 {found}，模型的是 {shape}",
    "{name} is {found}, here it is {shape}": "{name} 是 {found}，这里是 {shape}",
    "skipped {name}: {error}": "跳过 {name}：{error}",
    "{path}: only {written} of {count} bytes could be written; is the disk full?": (
        "{path}：{count} 字节只写入了 {written} 字节；是不是磁盘已满？"
    ),
    "is the disk full": "是不是磁盘已满",
    "{path}:{number}: not an event; the line starts {line!r}": "{path}:{number}：不是事件；这一行的开头是 {line!r}",
    "state {word!r} is not one of {names}": "没有 {word!r} 这个状态；有的是 {names}",
    "an event of type {kind!r} already has {names}; name the detail otherwise": (
        "{kind!r} 类型的事件已经有 {names}；请换个名称"
    ),
    "metric {name!r} is not declared in METRICS": "METRICS 里没有声明指标 {name!r}",
    "metric {name!r} is not declared in METRICS; near names: {names}": (
        "METRICS 里没有声明指标 {name!r}；相近的有：{names}"
    ),
    "metric {name!r} is {meant} already: call the other one something else": (
        "指标 {name!r} 已经表示 {meant}：另一个请换个名称"
    ),
    "beta_fast = {beta_fast} must be greater than beta_slow = {beta_slow}": (
        "beta_fast = {beta_fast} 必须大于 beta_slow = {beta_slow}"
    ),
    "head_dim = {head_dim} must be even: rotary embedding turns pairs of dimensions": (
        "head_dim = {head_dim} 必须是偶数：旋转位置编码成对地旋转各维"
    ),
    "hidden_size = {hidden} must be a multiple of num_attention_heads = {heads}, or head_dim be given": (
        "hidden_size = {hidden} 必须是 num_attention_heads = {heads} 的倍数，否则请给出 head_dim"
    ),
    (
        "num_attention_heads = {heads} must be a multiple of num_key_value_heads = {kv_heads}: every key/value "
        "head serves the same number of query heads"
    ): ("num_attention_heads = {heads} 必须是 num_key_value_heads = {kv_heads} 的倍数：每个键值头对应同样多的查询头"),
    "hidden states of {wrong}: this model has 0 (the embedding) to {depth} (its last)": (
        "{wrong} 的隐藏状态：本模型有 0（嵌入）到 {depth}（最后一层）"
    ),
    "{pair}: a pair is two numbers from 0 on, the student's and the teacher's, and named once": (
        "{pair}：一对是两个从 0 开始的整数（学生的层和教师的层），每对只写一次"
    ),
    "top_k = {k}: between 1 and {most}, for the teacher has {count} tokens and at least one is left over": (
        "top_k = {k}：应在 1 到 {most} 之间，因为教师共有 {count} 个词元，至少要留下一个"
    ),
    (
        "the teacher's likeliest tokens are {found} ids and {logprobs} log-probabilities, [tokens, top_k]; the student "
        "has {wanted}: they were kept for other rows or another top_k"
    ): (
        "教师最可能的词元有 {found} 个编号和 {logprobs} 个对数概率（[词元数, top_k]），学生这边是 {wanted}："
        "保存时用的是别的行或别的 top_k"
    ),
    (
        "the teacher has {theirs} tokens in its vocabulary, the student {own}: a student learns from a teacher "
        "that has its tokenizer"
    ): "教师的词表有 {theirs} 个词元，学生的有 {own} 个：学生只能跟使用同一个分词器的教师学习",
    "optim.lr_scale names {unknown}; what trains here is {trained}": (
        "optim.lr_scale 写了 {unknown}；这里训练的是 {trained}"
    ),
    "no parameter of the model asks for a gradient: there is nothing to train": (
        "模型没有任何参数需要梯度：没有可训练的"
    ),
    "the saved state is of {saved} optimizers and here are {here} ({names}): was optim.name changed?": (
        "保存的状态有 {saved} 个优化器，这里有 {here} 个（{names}）：是否改过 optim.name？"
    ),
    "this tokenizer has no special tokens {missing}, which a chat needs; train one": (
        "这个分词器没有对话需要的特殊词元 {missing}；请训练一个"
    ),
    "messages is empty: a conversation has at least one message": "messages 是空的：一段对话至少要有一条消息",
    "messages.{number} is a {type}: a message has a role and content": (
        "messages.{number} 是 {type}：一条消息要有 role 和 content"
    ),
    "messages: turn {number}, the last, is {role}; an answer follows a user's turn or a tool's": (
        "messages：最后一轮（第 {number} 轮）是 {role}；回答只能接在 user 或 tool 之后"
    ),
    "{field} is a {type}; allowed are text and null": "{field} 是 {type}；只能是文本或 null",
    "{field} must be a list of objects, or null": "{field} 必须是由对象组成的列表，或 null",
    "{field}: character {start} is half a surrogate pair; remove it, or write the whole character": (
        "{field}：第 {start} 个字符是半个代理对；请删掉它，或写出完整的字符"
    ),
    "tool {number}": "第 {number} 个工具",
    "{where} has no name: {{'name': ...}} is needed, or {{'function': {{'name': ...}}}}": (
        "{where} 没有名称：应有 {{'name': ...}}，或 {{'function': {{'name': ...}}}}"
    ),
    "{where}: arguments is a {type}; allowed are an object or its JSON": (
        "{where}：arguments 是 {type}；只能是对象，或对象的 JSON 文本"
    ),
    "objects that are nested too deeply": "对象嵌套得太深",
    "JSON that is nested too deeply": "JSON 嵌套得太深",
    "not JSON: {error}": "不是 JSON：{error}",
    "a JSON object is needed, not {type}": "应为 JSON 对象，而不是 {type}",
    "{name} is no JSON": "{name} 不是 JSON",
    "{name}: {value}": "{name}：{value}",
    " or ": " 或 ",
    # what `json` says
    "{problem}: line {line} column {column} (char {place})": (
        "{problem}：第 {line} 行第 {column} 列（第 {place} 个字符）"
    ),
    "Expecting value": "这里应有一个值",
    "Extra data": "后面还有多余的内容",
    "Expecting property name enclosed in double quotes": "这里应有双引号括起来的字段名",
    "Expecting ',' delimiter": "这里缺少逗号 ','",
    "Expecting ':' delimiter": "这里缺少冒号 ':'",
    "Unterminated string starting at": "从这里开始的字符串没有结束",
    "Invalid control character at": "这里有不允许的控制字符（例如换行）",
    "Invalid \\escape": "无效的 \\ 转义",
    "Invalid \\uXXXX escape": "无效的 \\uXXXX 转义",
    "Illegal trailing comma before end of object": "对象结尾前多了一个逗号",
    "Illegal trailing comma before end of array": "列表结尾前多了一个逗号",
    # evaluation
    "a text of {count} tokens cannot be scored: 1 to {most} can": (
        "{count} 个词元的文本无法评分：可以是 1 到 {most} 个"
    ),
    "a prompt of {count} tokens leaves no room for an answer: {most} fit": (
        "{count} 个词元的问题没有给回答留下空间：最多 {most} 个"
    ),
    "{first} and {second} rows: a comparison is of the same ones": ("{first} 行和 {second} 行：只能比较同样的行"),
    "k = {k}: allowed is 1 to the {samples} answers that there are": ("k = {k}：允许 1 到现有的 {samples} 个回答"),
    "at most {count} answers are written at once from now on": ("从现在起一次最多同时写 {count} 个回答"),
    (
        "after step {step}: there was nothing to learn from in {count} steps in a row; they change nothing and do not "
        "count"
    ): ("第 {step} 步之后：连续 {count} 步没有可学的内容；这些步不改变任何东西，也不计数"),
    (
        "the data ends after step {step}, and not after {total}: steps from which there was nothing to learn "
        "do not count"
    ): ("数据在第 {step} 步之后就用完了，而不是第 {total} 步：没有可学内容的步不计数"),
    (
        "can't continue here: {name} of the prompts was {theirs} and is {mine} now, and what is remembered is of those "
        "of then. Continue with what the run began with, or start a new run from its weights."
    ): (
        "无法从这里继续：问题的 {name} 原来是 {theirs}，现在是 {mine}，而记下来的是原来那些问题的情况。"
        "请用训练开始时的数据继续，或从它的权重开始新的训练。"
    ),
    "a reward of {reward:g}: memory = counts is for rewards from 0 to 1. Set stage.memory=mean": (
        "奖励为 {reward:g}：memory = counts 只适用于 0 到 1 之间的奖励。请设置 stage.memory=mean"
    ),
    (
        "clip_high = {value}: of cispo it is the most a ratio may be; below 1 every token would be held back. 5 is "
        "usual"
    ): ("clip_high = {value}：对 cispo 来说它是比值的上限；小于 1 会压低每个词元。通常取 5"),
    (
        "step {step} of the run {run_id!r} is a reward model: it gives scores (minimind reward score FILE) and "
        "writes nothing"
    ): ("运行 {run_id!r} 的第 {step} 步是奖励模型：它只打分（minimind reward score FILE），不写文本"),
    (
        "step {step} of the run {run_id!r} writes text and gives no scores: a reward model comes from `minimind "
        "train reward`"
    ): ("运行 {run_id!r} 的第 {step} 步写文本，不打分：奖励模型由 `minimind train reward` 训练得到"),
    "text {number} has {count} tokens: a score is given to 1 to {most}": (
        "第 {number} 个文本有 {count} 个词元：可以打分的是 1 到 {most} 个"
    ),
    "dual_clip = {value}: cispo has its own bound, clip_high; set it to null": (
        "dual_clip = {value}：cispo 有自己的上限 clip_high；请设为 null"
    ),
    (
        "The policy has settled: entropy {entropy:.3f} nats a token, so the answers to a prompt are "
        "all alike, and {right:.0f} % of the held-out prompts are answered right. It tries nothing "
        "any more and learns nothing. Begin again from an earlier checkpoint with a lower "
        "--learning_rate, or set stage.loss.entropy=0.01."
    ): (
        "策略已经定型：熵只有每词元 {entropy:.3f} 奈特，同一个问题的回答都一样，而留出的问题只有 {rig"
        "ht:.0f} % 答对。它不再尝试，也就学不到东西。请从较早的检查点以更低的 --learning_rate 重新开"
        "始，或设 stage.loss.entropy=0.01。"
    ),
    (
        "Nearly all groups are without signal, and {right:.0f} % of the held-out prompts are "
        "answered right: that is normal here, these prompts are learnt. Harder ones would teach more."
    ): (
        "几乎所有组都没有信号，而留出的问题有 {right:.0f} % 答对：这是正常的，这些问题已经学会。更难的问题能教得更多。"
    ),
    (
        "Of {same:.0f} % of the prompts all answers are worth the same: next to nothing is learnt. "
        "Take prompts that the model answers right now and then (minimind data passrate tells "
        "which), a reward that an answer earns in part, or a larger --group_size."
    ): (
        "{same:.0f} % 的问题，其回答全都一样好：几乎学不到东西。请选模型时对时错的问题（minimind data"
        " passrate 会指出），用部分给分的奖励，或加大 --group_size。"
    ),
    (
        "Answers have grown from {before:.0f} to {now:.0f} tokens since step {step}, and no more of "
        "them are right: length is rewarded. Look at them with minimind show RUN --samples; take the "
        "term that pays for length out, or add overlong or length."
    ): (
        "从第 {step} 步起，回答由 {before:.0f} 个词元长到 {now:.0f} 个，答对的却没有增多：奖励在鼓励"
        "长度。请用 minimind show RUN --samples 看看回答；去掉奖励长度的那一项，或加上 overlong 或 le"
        "ngth。"
    ),
    (
        "{share:.0f} % of the answers had not ended when there was no more room. Raise "
        "--max_new_tokens if they need more; else set stage.learn_cut=false, or add the reward "
        "stopped beside the one that says what is right."
    ): (
        "{share:.0f} % 的回答还没结束就没有位置了。如果确实需要更长，请加大 --max_new_tokens；否则设 "
        "stage.learn_cut=false，或在判断对错的奖励之外加上 stopped。"
    ),
    (
        "The reward of held-out answers went up from {reward:.2f} to {more:.2f} since step {step}, "
        "while right ones fell from {before:.0f} to {now:.0f} %: the policy has found what pays "
        "without being right. Look at minimind show RUN --samples, and give that term less weight or "
        "a bound."
    ): (
        "从第 {step} 步起，留出回答的奖励由 {reward:.2f} 升到 {more:.2f}，答对的却由 {before:.0f} 降"
        "到 {now:.0f} %：策略找到了不答对也能得分的办法。请看 minimind show RUN --samples，给那一项更"
        "小的权重或一个上限。"
    ),
    (
        "The policy is {kl:.2f} nats a token away from where it began: it is hardly the same model, "
        "and may have forgotten much. Raise stage.loss.kl, or lower --learning_rate."
    ): (
        "策略已离起点每词元 {kl:.2f} 奈特：几乎不再是同一个模型，可能忘了很多。请加大 stage.loss.kl，"
        "或降低 --learning_rate。"
    ),
    (
        "Answers repeat themselves: {now:.0f} % of their stretches of four tokens stood in them "
        'before, {before:.0f} % at the beginning. Add the reward {{"is": "repetition", '
        '"weight": 0.5}}, or lower --learning_rate.'
    ): (
        "回答在重复自己：连续四个词元的片段有 {now:.0f} % 在前面出现过，开始时是 {before:.0f} %。请加"
        '上奖励 {{"is": "repetition", "weight": 0.5}}，或降低 --learning_rate。'
    ),
    (
        "What the engine draws from and what is trained are {gap:.2f} nats a token apart, and "
        "{clipped:.1f} % of the tokens are beyond what is made good: what is learnt is not what was "
        "tried. Take --dtype float32, and report it if that does not help."
    ): (
        "引擎采样的分布与训练的分布每词元相差 {gap:.2f} 奈特，{clipped:.1f} % 的词元差得无法纠正：学"
        "的不是试的。请用 --dtype float32；如果没有改善，请报告。"
    ),
    (
        "A loss near 0 is normal here: what is learnt are differences between answers, and these add "
        "up to 0. Whether the run gets better says val/right."
    ): ("这里的损失接近 0 是正常的：学的是回答之间的差别，它们加起来是 0。有没有变好，要看 val/right。"),
    "it calls that wrong": "它判为错误",
    (
        "{where}: the reward {name}, which says what is right, does not compare with right answers, and calls all "
        "{count} wrong that were looked at, such as {answer!r} to {question!r}. That is as it should be only where "
        "you want something else of an answer than the rows have."
    ): (
        "{where}：判断对错的奖励 {name} 不与正确答案比较，看过的 {count} 个正确答案它都判为错误，例如 {question!r} 的 "
        "{answer!r}。只有当您要求的回答与数据里的不同时，才应当如此。"
    ),
    (
        "{where}: the reward {name}, which says what is right, can read none of the right answers, of which "
        "{count} were looked at: no answer would ever be right. To {question!r} the right answer is "
        "{answer!r}: {why}. Name another term first, such as {others}, or rows whose right answers it can read"
    ): (
        "{where}：判断对错的奖励 {name} 读不懂任何正确答案（看了 {count} 个）：这样没有回答会是对的。"
        "{question!r} 的正确答案是 {answer!r}：{why}。请把别的奖励放在第一位，例如 {others}，"
        "或换用它能读懂的正确答案的数据"
    ),
    (
        "{where}: by the reward {name}, which says what is right, {wrong} of {count} right answers that were looked at "
        "are not right, so no answer to their prompts ever is. To {question!r} the right answer is {answer!r}: {why}. "
        "Leave such rows out, or name another term first."
    ): (
        "{where}：看过的 {count} 个正确答案中，有 {wrong} 个被判断对错的奖励 {name} 判为不对，"
        "所以这些题目怎么回答都不会对。{question!r} 的正确答案是 {answer!r}：{why}。"
        "请去掉这些行，或把别的奖励放在第一位。"
    ),
    "the notes of the run have the reason": "原因见运行的说明",
    (
        "The reward {name} could not judge {share:.0f} % of the answers since the validation before: {problem}. What "
        "it was to teach is not learnt meanwhile. Mend what it judges by: the address and the key of a judge, the "
        "function and its limits (timeout_s, cpu_s, memory_mb), right answers that it can read. A run that is stopped "
        "and resumed after that loses nothing; else begin again without this term."
    ): (
        "自上一次验证以来，奖励 {name} 有 {share:.0f} % 的回答没能评出：{problem}。这段时间学不到它要教的东西。"
        "请改正它评判所依靠的：评判模型的地址和密钥、函数及其限制（timeout_s、cpu_s、memory_mb）、它能读懂的正确答案。"
        "改好之后，停下再继续的运行不会丢失什么；否则请去掉这一项重新开始。"
    ),
}
