"""Words of made-up shops in four languages: what they sell, and how people ask for it."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Vocabulary of a language.

    Attributes:
        language: language tag.
        goods: department → product types; a type is its noun and, behind a slash, the word by which some people search for it.
        colours: colours.
        materials: materials.
        traits: other adjectives.
        syllables: parts of brand names.
        order: order of the parts of a title: brand, trait, material, noun, colour, series.
        blank: what stands between two parts.
        sentence: a description, with {noun}, {material} and {trait}.
    """

    language: str
    goods: dict[str, list[str]]
    colours: list[str]
    materials: list[str]
    traits: list[str]
    syllables: list[str]
    order: tuple[str, ...]
    blank: str
    sentence: str


ENGLISH = Words(
    "en",
    {
        "Camping": [
            "tent/shelter",
            "sleeping bag",
            "lantern/camp light",
            "camp stove/cooker",
            "hammock",
            "air mattress/sleeping mat",
            "cool box",
            "folding chair",
            "water bottle/flask",
            "headlamp/head torch",
        ],
        "Hiking": [
            "hiking boot/walking boot",
            "trekking pole/walking stick",
            "backpack/rucksack",
            "rain jacket/waterproof coat",
            "fleece",
            "gaiters",
            "compass",
            "map case",
        ],
        "Climbing": [
            "climbing rope",
            "harness",
            "carabiner",
            "climbing shoe",
            "chalk bag",
            "helmet",
            "ice axe",
            "belay device",
        ],
        "Cycling": [
            "bike pump/bicycle pump",
            "bike lock",
            "cycling jersey",
            "saddle",
            "pannier/bike bag",
            "bike light",
            "cycling glove",
            "tyre/tire",
        ],
        "Kitchen": [
            "frying pan/skillet",
            "kettle",
            "chef knife",
            "cutting board/chopping board",
            "mixing bowl",
            "corkscrew",
            "coffee grinder",
            "teapot",
            "toaster",
            "apron",
        ],
        "Home": [
            "desk lamp/table light",
            "pillow",
            "duvet/blanket",
            "curtain",
            "rug/carpet",
            "mirror",
            "bookshelf",
            "wall clock",
            "vase",
            "armchair",
        ],
    },
    ["red", "blue", "green", "black", "white", "grey", "yellow", "orange", "purple", "brown"],
    ["steel", "cotton", "nylon", "wool", "aluminium", "leather", "bamboo", "titanium"],
    ["lightweight", "waterproof", "compact", "insulated", "foldable", "premium", "kids", "rugged", "slim", "extra large"],
    [
        "al",
        "bor",
        "cas",
        "den",
        "el",
        "fan",
        "gor",
        "hil",
        "kar",
        "lum",
        "mon",
        "nor",
        "pin",
        "rav",
        "sol",
        "tar",
        "ven",
        "wix",
        "zan",
        "ost",
    ],
    ("brand", "series", "trait", "material", "noun", "colour"),
    " ",
    "A {trait} {noun} made of {material} for every day. Tested by our team, delivered in two days.",
)

GERMAN = Words(
    "de",
    {
        "Garten": [
            "Gartenschere/Rosenschere",
            "Gießkanne",
            "Rasenmäher",
            "Gartenschlauch/Wasserschlauch",
            "Hochbeet",
            "Blumentopf/Pflanzkübel",
            "Laubrechen",
            "Schubkarre",
            "Gartenhandschuhe",
            "Sonnenschirm",
        ],
        "Küche": [
            "Bratpfanne/Pfanne",
            "Wasserkocher",
            "Küchenmesser/Kochmesser",
            "Schneidebrett",
            "Rührschüssel",
            "Kaffeemühle",
            "Teekanne",
            "Brotkasten",
            "Nudelholz",
            "Backform/Kuchenform",
        ],
        "Werkstatt": [
            "Akkuschrauber/Bohrschrauber",
            "Stichsäge",
            "Werkzeugkoffer",
            "Schraubendreher",
            "Wasserwaage",
            "Zollstock",
            "Schleifpapier",
            "Arbeitshandschuhe",
            "Leiter",
            "Schraubstock",
        ],
        "Wohnen": [
            "Stehlampe/Stehleuchte",
            "Schreibtisch",
            "Bücherregal",
            "Sofakissen/Zierkissen",
            "Wanduhr",
            "Teppich",
            "Vorhang/Gardine",
            "Bettdecke",
            "Spiegel",
            "Kerzenständer",
        ],
    },
    ["rot", "blau", "grün", "schwarz", "weiß", "grau", "gelb", "orange", "lila", "braun"],
    ["Edelstahl", "Baumwolle", "Eichenholz", "Kunststoff", "Aluminium", "Leder", "Bambus", "Keramik"],
    [
        "robust",
        "wetterfest",
        "kompakt",
        "klappbar",
        "leicht",
        "rostfrei",
        "extra groß",
        "für Kinder",
        "ergonomisch",
        "geräuscharm",
    ],
    [
        "bau",
        "ber",
        "dorn",
        "eich",
        "feld",
        "grün",
        "hag",
        "klein",
        "lin",
        "moos",
        "nord",
        "ost",
        "rein",
        "stein",
        "tal",
        "wald",
        "wer",
        "zell",
    ],
    ("brand", "series", "noun", "trait", "material", "colour"),
    " ",
    "{noun} aus {material}, {trait}. Geprüfte Qualität, Lieferung in zwei Tagen.",
)

CHINESE = Words(
    "zh",
    {
        "女装": ["连衣裙/裙子", "衬衫", "牛仔裤", "羽绒服/棉服", "风衣", "毛衣/针织衫", "半身裙", "卫衣"],
        "鞋靴": ["运动鞋/跑步鞋", "凉鞋", "高跟鞋", "雪地靴/棉靴", "帆布鞋", "拖鞋", "皮鞋", "登山鞋"],
        "厨房": ["炒锅/不粘锅", "电热水壶", "菜刀", "砧板/菜板", "保温杯/水杯", "饭盒", "茶壶", "榨汁机"],
        "家居": ["台灯/护眼灯", "枕头", "被子/被芯", "窗帘", "地毯", "收纳箱/储物箱", "书架", "挂钟"],
        "数码": ["蓝牙耳机/无线耳机", "充电宝/移动电源", "手机壳", "键盘", "鼠标", "音箱", "数据线", "平板支架"],
    },
    ["红色", "蓝色", "绿色", "黑色", "白色", "灰色", "黄色", "橙色", "紫色", "棕色"],
    ["纯棉", "真皮", "羊毛", "不锈钢", "陶瓷", "实木", "涤纶", "硅胶"],
    ["轻便", "防水", "加厚", "迷你", "可折叠", "高级", "儿童", "宽松", "修身", "大容量"],
    ["安", "宝", "晨", "达", "恩", "福", "光", "华", "佳", "康", "丽", "美", "诺", "奇", "瑞", "顺", "泰", "雅", "优", "悦"],
    ("brand", "series", "colour", "trait", "material", "noun"),
    "",
    "{material}{noun}，{trait}设计，品质保证，两天送达。",
)

JAPANESE = Words(
    "ja",
    {
        "キッチン": [
            "フライパン/炒め鍋",
            "電気ケトル/湯沸かし器",
            "包丁/ナイフ",
            "まな板",
            "水筒/ボトル",
            "弁当箱/ランチボックス",
            "急須",
            "トースター",
        ],
        "インテリア": [
            "デスクライト/卓上ランプ",
            "枕",
            "掛け布団/羽毛布団",
            "カーテン",
            "ラグ/絨毯",
            "収納ボックス",
            "本棚",
            "壁掛け時計",
        ],
        "アウトドア": [
            "テント",
            "寝袋/シュラフ",
            "ランタン",
            "登山靴/トレッキングシューズ",
            "リュック/バックパック",
            "レインジャケット/雨具",
            "折りたたみ椅子",
            "クーラーボックス",
        ],
        "文房具": ["ボールペン", "ノート/帳面", "万年筆", "はさみ", "消しゴム", "ペンケース/筆箱", "手帳", "定規"],
    },
    ["赤", "青", "緑", "黒", "白", "グレー", "黄色", "オレンジ", "紫", "茶色"],
    ["綿", "革", "ウール", "ステンレス", "陶器", "木製", "ナイロン", "シリコン"],
    ["軽量", "防水", "コンパクト", "折りたたみ", "大容量", "高級", "子供用", "薄型", "丈夫な", "静音"],
    [
        "あお",
        "いし",
        "うみ",
        "おか",
        "かわ",
        "きた",
        "さくら",
        "しん",
        "たか",
        "つき",
        "なみ",
        "はな",
        "ふじ",
        "まつ",
        "みどり",
        "やま",
    ],
    ("brand", "series", "trait", "material", "noun", "colour"),
    " ",
    "{material}の{trait}{noun}です。品質保証、二日でお届けします。",
)

__all__ = ["CHINESE", "ENGLISH", "GERMAN", "JAPANESE", "Words"]
