"""What the tables, plots and progress lines say, in English and Chinese."""

from __future__ import annotations

import os
import re

LANGUAGES = ("en", "zh")

_ZH = {
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
    "bytes": "字节",
    "s": "秒",
    # meanings of metrics
    "mean cross-entropy of the step's target tokens": "该步目标词元的平均交叉熵",
    "length of the whole gradient before clipping": "裁剪前的梯度范数",
    "learning rate of the step": "该步的学习率",
    "real (non-padding) tokens trained on since the run began": "累计训练的有效词元数（不含填充）",
    "gradient scale of float16 training": "float16 训练的梯度缩放系数",
    "steps refused so far because a number was not finite": "因出现非有限数值而跳过的步数",
    "mean cross-entropy of the held-out tokens": "验证集词元的平均交叉熵",
    "held-out cross-entropy per byte of text, whatever the tokenizer": "验证集每字节文本的交叉熵，可跨分词器比较",
    "the same on held-out plain text: how much is forgotten": "预训练文本上的同一指标：衡量遗忘",
    "real (non-padding) tokens per second, all workers together": "所有进程合计每秒处理的有效词元数",
    "wall time of one optimizer step": "每个优化步的实际用时",
    "part of the step spent waiting for data": "每步中等待数据的时间",
    "most memory held so far, on the worker that holds most": "占用最多的进程的内存峰值",
    "share of the tokens in the batches that is not padding": "批次中有效词元的比例",
    "compression of Chinese text": "中文文本压缩率",
    "compression of English text": "英文文本压缩率",
}


def language(asked: str | None = None) -> str:
    """The language to speak: as asked, else $MINIMIND_LANG, else that of the locale; "zh" or "en".

    Raises ValueError for an asked one, or a $MINIMIND_LANG, that there is not.
    """
    chosen = ("language", asked) if asked else ("MINIMIND_LANG", os.environ.get("MINIMIND_LANG"))
    if chosen[1] and re.split("[-_.@]", chosen[1])[0].lower() not in LANGUAGES:
        raise ValueError(f"{chosen[0]} = {chosen[1]!r}: there are {', '.join(LANGUAGES)}")
    names = (asked, *(os.environ.get(name) for name in ("MINIMIND_LANG", "LC_ALL", "LC_MESSAGES", "LANG")))
    return "zh" if next(filter(None, names), "").lower().startswith("zh") else "en"


def say(text: str, lang: str) -> str:
    """The English `text` in the language `lang`; where there is no translation, as it is."""
    return _ZH.get(text, text) if lang == "zh" else text
