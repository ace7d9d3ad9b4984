"""Types of KuaiSearch's `attr_value`: a judged item has a list of values, and the source does not say which attribute each belongs to.

Values of closed classes are told by their form: seasons, ages, places, quantities, colours, patterns, materials, styles. The rules are our
choice and keep to what has one meaning; every other value is a tag.
"""

from __future__ import annotations

import re
from typing import NamedTuple

EMPTY = frozenset({"", "\\N", "UNKNOWN", "否", "是", "无", "其他", "其它", "其他/other", "其他/QITA", "无品牌"})
"""Values that say nothing without the name of their attribute: yes, no, none, other, no brand."""

_PLACES = (
    "中国大陆|中国香港|中国台湾|其他海外地区|海外|北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|"
    "河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|内蒙古|广西|西藏|宁夏|新疆|台湾|香港|澳门"
)
_MATERIALS = (
    "纯?棉|聚酯纤维|涤纶|锦纶|氨纶|莫代尔|羊毛|羊绒|亚麻|蚕丝|真丝|雪纺|牛仔布|真皮|牛皮|PU|PP棉|PVC|ABS|塑料|硅胶|橡胶|铁|"
    "铝合金|不锈钢|合金|玻璃|陶瓷|实木|竹|纸|足金|银"
)
_UNITS = "mm|cm|kg|mg|ml|g|m|l|%|寸|英寸|厘米|毫米|毫升|千克|克|斤|升|支|片|包|盒|线"

RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("season", re.compile(r"(\d{4}年)?[春夏秋冬四]季|不限季节")),
    ("audience", re.compile(r".*(周岁|岁).*|\d+-\d+个月|孕[早中晚]期|男女通用|[男女]士?|儿童|婴儿|中老年|成人")),
    ("location", re.compile(_PLACES)),
    ("specifications", re.compile(rf"\d+(\.\d+)?(-\d+(\.\d+)?)?({_UNITS})(?![a-z]).*", re.IGNORECASE)),
    ("color", re.compile(r"[深浅米酒藏天湖玫军墨]?[红橙黄绿青蓝紫黑白灰粉棕金银杏咖啡]{1,2}色")),
    ("pattern", re.compile("纯色|印花|条纹|格子|格纹|碎花|波点|豹纹|卡通动漫|刺绣|字母|迷彩")),
    ("material", re.compile(_MATERIALS)),
    ("style", re.compile(r"(?!.*[防抗挡通透]风).{1,4}风格?|简约|休闲|时尚|复古|甜美|清新|日系")),
)
"""Attribute type → form of its values, in the order in which they are tried."""


class TypedValues(NamedTuple):
    """Values by attribute type, and those without a type; each once, in the order of their first appearance."""

    attributes: dict[str, list[str]]
    tags: list[str]


def typed_values(text: str, brand: str | None) -> TypedValues:
    """Split an `attr_value` and sort its values.

    Args:
        text: values separated by commas; several values of one attribute are separated by spaces.
        brand: brand of the item, which the list repeats and which has a column of its own.
    """
    whole = [value.strip() for value in text.split(",")]
    values = [part for value in whole if value != brand for part in value.split()]
    attributes: dict[str, list[str]] = {}
    tags: list[str] = []
    for value in dict.fromkeys(values):
        if value in EMPTY:
            continue
        kind = next((kind for kind, form in RULES if form.fullmatch(value)), None)
        (tags if kind is None else attributes.setdefault(kind, [])).append(value)
    return TypedValues(attributes, tags)


__all__ = ["EMPTY", "RULES", "TypedValues", "typed_values"]
