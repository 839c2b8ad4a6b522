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
}
