"""What `minimind` says, in Chinese."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    # settings
    "Field required": "缺少这一项",
    "Input should be a finite number": "应为有限的数",
    "Input should be a valid boolean, unable to interpret input": "应为 0 或 1（真或假）",
    "Input should be a valid integer, unable to parse string as an integer": "应为整数",
    "Input should be a valid number, unable to parse string as a number": "应为数字",
    "Input should be a valid string": "应为文本",
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
    # units
    "{text!r} is no size of memory: write a number and GB or MB, such as 8GB, 7.5GB or 512MB": (
        "{text!r} 不是内存大小：请写数字加 GB 或 MB，例如 8GB、7.5GB 或 512MB"
    ),
    # memory that runs out
    "at most 1 row at once from now on, with as many rows per step as before": "此后每次只计算 1 行，每步的总行数不变",
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
    "after step {step}: its gradient is not a number; the step is skipped": "第 {step} 步之后：梯度不是数，跳过这一步",
    " and the float16 loss scale {scale} halved (normal in the first steps)": (
        "，float16 的损失缩放 {scale} 减半（最初几步里属于正常）"
    ),
}
