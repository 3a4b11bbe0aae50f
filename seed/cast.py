"""Who the sixty are: households, ages, and the illnesses their lives are simulated with.

A row is household|relation|sex|age|name|courses|flags. Ages are today's (of the dead: what they would be); `name` is
"han" or a key of `names.OTHER_NAMES`; a course may have an argument ("pregnancy:current"). Flags: smoker, exsmoker,
dead:<days ago>, and an allergy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_TABLE: Final = """
1|grandfather|male|82|han|hypertension lipids ckd|exsmoker
1|grandmother|female|79|han|diabetes hypertension knee|penicillin
1|father|male|53|han|lipids gout|smoker
1|mother|female|50|han|thyroid|
1|son|male|24|han|fracture:ankle acute|
2|grandmother|female|76|han|osteoporosis fracture:hip|
2|father|male|48|han|hypertension|smoker
2|mother|female|45|han|breast-cancer|
2|daughter|female|16|han|asthma|mite
3|father|male|36|han|acute|
3|mother|female|33|han|pregnancy:child|
3|daughter|female|5|han|child|
3|son|male|0.6|han|child|
4|father|male|41|han|asthma rhinitis|pollen
4|mother|female|39|han|depression|
4|son|male|9|han|child fracture:forearm|penicillin
4|son|male|9|han|child|
5|grandfather|male|71|han|copd|smoker
5|grandmother|female|69|han|hypertension diabetes|
6|father|male|34|han|acute|smoker
6|mother|female|31|han|pregnancy:current|
6|son|male|3|han|child|
7|mother|female|44|uyghur-f|diabetes|
7|father|male|47|uyghur-m|hypertension|
7|daughter|female|12|uyghur-d|child|
8|father|male|58|tibetan-m|copd|smoker
8|mother|female|55|tibetan-f|hypertension|
9|father|male|42|us-m|hypertension|
9|mother|female|38|fr-f|pregnancy:child|shellfish
9|daughter|female|2|us-d|child|
10|single|male|63|de-m|prostate lipids|
11|single|female|29|ru-f|depression|
12|single|female|35|jp-f|thyroid|
13|single|male|31|ng-m|fracture:forearm acute|
14|single|female|27|in-f|anaemia acute|
15|father|male|66|mongol-m|hypertension gout|exsmoker
15|mother|female|62|korean-f|diabetes lipids|
16|single|male|19|zhuang-m|asthma|
17|grandfather|male|89|han|copd|exsmoker dead:240
17|grandmother|female|85|han|hypertension ckd|
18|grandmother|female|73|han|lung-cancer|dead:410
18|grandfather|male|75|han|diabetes lipids|
19|grandfather|male|92|han|hypertension ckd|dead:130
19|daughter|female|60|han|lipids|
20|father|male|61|han|colon-cancer|exsmoker
20|mother|female|59|han|insomnia|
21|father|male|43|han|appendicitis acute|
21|mother|female|40|han|reflux|penicillin
21|son|male|14|han|child fracture:clavicle|
21|daughter|female|7|han|child|
22|grandmother|female|95|han|hypertension|
22|son|male|70|han|diabetes ckd|
23|husband|male|28|han|acute|
23|wife|female|26|han|pregnancy:early|
24|single|female|21|han|depression|
25|mother|female|30|han|pregnancy:child|
25|father|male|32|han|acute|
25|daughter|female|1|han|child|
26|single|male|17|han|acute|
27|single|male|22|han|acute|
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One row of the cast."""

    household: int
    relation: str
    sex: str
    age: float
    name: str
    courses: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def died_days_ago(self) -> int | None:
        """Days since death; None of the living."""
        return next((int(flag[5:]) for flag in self.flags if flag.startswith("dead:")), None)


def parts(patients: int) -> list[Part]:
    """The first `patients` parts; beyond sixty the cast plays again in new households, as Han and without the dead."""
    rows = [row.split("|") for row in _TABLE.strip().splitlines()]
    out = []
    for index in range(patients):
        household, relation, sex, age, name, courses, flags = rows[index % len(rows)]
        again = index // len(rows)
        kept = tuple(flag for flag in flags.split() if not (again and flag.startswith("dead:")))
        out.append(
            Part(
                int(household) + 100 * again,
                relation,
                sex,
                float(age),
                "han" if again else name,
                tuple(courses.split()),
                kept,
            )
        )
    return out
