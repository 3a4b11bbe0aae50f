"""Names of invented people: Chinese with pinyin, China's minorities, foreigners.

A name is drawn from common surnames and common given characters; any likeness to a real person is chance.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from seed.base import JSON, present

REPRESENTATION: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"

_SURNAMES: Final = [
    "王Wang",
    "李Li",
    "张Zhang",
    "刘Liu",
    "陈Chen",
    "杨Yang",
    "赵Zhao",
    "黄Huang",
    "周Zhou",
    "吴Wu",
    "徐Xu",
    "孙Sun",
    "胡Hu",
    "朱Zhu",
    "高Gao",
    "林Lin",
    "何He",
    "郭Guo",
    "马Ma",
    "罗Luo",
    "梁Liang",
    "宋Song",
    "郑Zheng",
    "谢Xie",
    "韩Han",
    "唐Tang",
    "冯Feng",
    "于Yu",
    "董Dong",
    "萧Xiao",
    "程Cheng",
    "曹Cao",
    "袁Yuan",
    "邓Deng",
    "许Xu",
    "傅Fu",
    "沈Shen",
    "曾Zeng",
    "彭Peng",
    "吕Lü",
    "欧阳Ouyang",
    "诸葛Zhuge",
]

#: Given names by generation: born before 1960, before 1990, later.
_MALE: Final = (
    [
        "建国Jianguo",
        "国强Guoqiang",
        "德明Deming",
        "志远Zhiyuan",
        "永福Yongfu",
        "文彬Wenbin",
        "长林Changlin",
        "振华Zhenhua",
        "世杰Shijie",
    ],
    [
        "伟Wei",
        "军Jun",
        "勇Yong",
        "建平Jianping",
        "志强Zhiqiang",
        "海涛Haitao",
        "晓东Xiaodong",
        "立新Lixin",
        "俊Jun",
        "鹏飞Pengfei",
        "明辉Minghui",
    ],
    [
        "浩然Haoran",
        "子轩Zixuan",
        "宇航Yuhang",
        "沐宸Muchen",
        "一诺Yinuo",
        "梓睿Zirui",
        "俊熙Junxi",
        "泽宇Zeyu",
        "思远Siyuan",
        "奕辰Yichen",
    ],
)
_FEMALE: Final = (
    [
        "秀英Xiuying",
        "桂兰Guilan",
        "淑珍Shuzhen",
        "玉梅Yumei",
        "凤霞Fengxia",
        "素芬Sufen",
        "月娥Yue'e",
        "惠芳Huifang",
        "翠花Cuihua",
    ],
    [
        "丽Li",
        "静Jing",
        "艳Yan",
        "敏Min",
        "晓红Xiaohong",
        "雪梅Xuemei",
        "海燕Haiyan",
        "玲玲Lingling",
        "慧敏Huimin",
        "婷Ting",
        "佳慧Jiahui",
    ],
    [
        "欣怡Xinyi",
        "梓涵Zihan",
        "诗涵Shihan",
        "可馨Kexin",
        "雨桐Yutong",
        "若曦Ruoxi",
        "思琪Siqi",
        "语嫣Yuyan",
        "依诺Yinuo",
        "佳怡Jiayi",
    ],
)

#: (text, Latin text, family, given) of people whose names are not Han: minorities of China, then foreigners.
OTHER_NAMES: Final[dict[str, tuple[str, str, str | None, tuple[str, ...]]]] = {
    "uyghur-f": ("阿依古丽·买买提", "Ayigul Memet", "买买提", ("阿依古丽",)),
    "uyghur-m": ("艾尔肯·吐尔逊", "Erkin Tursun", "吐尔逊", ("艾尔肯",)),
    "uyghur-d": ("古丽娜尔·艾尔肯", "Gulnar Erkin", "艾尔肯", ("古丽娜尔",)),
    "tibetan-m": ("扎西顿珠", "Tashi Dondrub", None, ("扎西顿珠",)),
    "tibetan-f": ("卓玛央金", "Drolma Yangchen", None, ("卓玛央金",)),
    "mongol-m": ("巴特尔", "Baatar", None, ("巴特尔",)),
    "korean-f": ("金顺姬", "Jin Shunji", "金", ("顺姬",)),
    "zhuang-m": ("韦宏宇", "Wei Hongyu", "韦", ("宏宇",)),
    "us-m": ("Michael Anderson", "Michael Anderson", "Anderson", ("Michael", "James")),
    "fr-f": ("Chloé Lefèvre", "Chloe Lefevre", "Lefèvre", ("Chloé",)),
    "us-d": ("Emma Anderson", "Emma Anderson", "Anderson", ("Emma", "Lin")),
    "de-m": ("Jürgen Weiß", "Juergen Weiss", "Weiß", ("Jürgen",)),
    "ru-f": ("Анна Сергеевна Морозова", "Anna Sergeyevna Morozova", "Морозова", ("Анна", "Сергеевна")),
    "jp-f": ("佐藤美咲", "Sato Misaki", "佐藤", ("美咲",)),
    "ng-m": ("Chukwuemeka Okafor", "Chukwuemeka Okafor", "Okafor", ("Chukwuemeka",)),
    "in-f": ("Priya Raghunathan", "Priya Raghunathan", "Raghunathan", ("Priya",)),
}


@dataclass(frozen=True, slots=True)
class Name:
    """A name in its own script, and in Latin letters."""

    text: str
    latin: str
    family: str | None
    given: tuple[str, ...]
    latin_family: str | None = None
    latin_given: tuple[str, ...] = ()

    def human_names(self, prefix: str | None = None) -> list[JSON]:
        """HumanName, and a second one in Latin letters where the first is not, as kernel K2 says."""
        names = [
            present(
                use="official",
                text=self.text,
                family=self.family,
                given=list(self.given),
                prefix=[prefix] if prefix else None,
            )
        ]
        if self.latin != self.text:
            names.append(
                present(
                    extension=[{"url": REPRESENTATION, "valueCode": "SYL"}],
                    text=self.latin,
                    family=self.latin_family,
                    given=list(self.latin_given),
                )
            )
        return names


def _split(item: str) -> tuple[str, str]:
    cut = next(index for index, sign in enumerate(item) if sign.isascii())
    return item[:cut], item[cut:]


def other(key: str) -> Name:
    """One of OTHER_NAMES."""
    text, latin, family, given = OTHER_NAMES[key]
    words = latin.split()
    if family is None:
        return Name(text, latin, family, given, None, tuple(words))
    if key[:2] in ("jp", "ko", "zh"):
        return Name(text, latin, family, given, words[0], tuple(words[1:]))
    return Name(text, latin, family, given, words[-1], tuple(words[:-1]))


def surname(rng: random.Random, taken: set[str]) -> str:
    """A surname with pinyin ("王Wang") that is not in `taken` while there is a choice."""
    choice = [item for item in _SURNAMES if item not in taken] or list(_SURNAMES)
    return rng.choice(choice)


def chinese(rng: random.Random, family: str, sex: str, born: int, taken: set[str]) -> Name:
    """A Chinese name of that surname, of the sex and generation, that nobody in `taken` has yet."""
    generation = 0 if born < 1960 else 1 if born < 1990 else 2
    pool = (_MALE if sex == "male" else _FEMALE)[generation]
    surname_text, surname_latin = _split(family)
    choice = [item for item in pool if surname_text + _split(item)[0] not in taken] or pool
    given, latin = _split(rng.choice(choice))
    name = Name(surname_text + given, f"{surname_latin} {latin}", surname_text, (given,), surname_latin, (latin,))
    taken.add(name.text)
    return name


def staff(text: str) -> Name:
    """A name written as "王|志远|Wang|Zhiyuan" (own family, own given, Latin family, Latin given)."""
    family, given, latin_family, latin_given = text.split("|")
    if family.isascii():
        return Name(f"{given} {family}", f"{latin_given} {latin_family}", family, tuple(given.split()))
    return Name(family + given, f"{latin_family} {latin_given}", family, (given,), latin_family, (latin_given,))
