"""Curated word tables of the simulated market. An entry is ``word|synonym``: titles contain the word, queries use either.

Every product noun, attribute word and synonym is one written word and occurs once in this file, so each query has one meaning.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Department:
    """A coarsest category and the words of its products.

    Args:
        price: median price of its products, in the market's currency.
        gendered: whether its products are made for women, men or kids rather than for families or students.
        groups: product nouns by middle category.
        materials: words for the material attribute.
        functions: words for the function attribute.
        specifications: texts for the specifications attribute, separated by commas.
    """

    price: float
    gendered: bool
    groups: dict[str, str]
    materials: str
    functions: str
    specifications: str


DEPARTMENTS: dict[str, Department] = {
    "Fashion": Department(
        40.0,
        True,
        {
            "Shoes": "sneaker|trainer sandal|slider boot|bootie",
            "Outerwear": "jacket|windbreaker hoodie|sweatshirt parka|anorak",
            "Bottoms": "jeans|dungarees skirt|kilt shorts|bermudas",
            "Accessories": "scarf|shawl belt|waistband gloves|mittens",
        },
        "leather|hide cotton|jersey suede|nubuck linen|flax wool|merino canvas|duck",
        "waterproof|rainproof breathable|airy windproof|stormproof stretchable|elastic insulated|thermal packable|crushable",
        "size S,size M,size L,wide fit,regular fit",
    ),
    "Electronics": Department(
        120.0,
        False,
        {
            "Audio": "headphones|headset speaker|boombox earbuds|earphones",
            "Computing": "laptop|ultrabook keyboard|keypad monitor|screen",
            "Mobile": "smartphone|cellphone tablet|slate charger|adapter",
            "Imaging": "camera|camcorder drone|quadcopter projector|beamer",
        },
        "aluminium|alloy polycarbonate|plastic titanium|ti6 glass|crystal silicone|rubber carbon|fibre",
        "wireless|cordless rechargeable|battery shockproof|rugged touch|gesture bluetooth|bt5 fanless|silent",
        "16 GB,64 GB,10 hours,20 W,4K",
    ),
    "Kitchen": Department(
        35.0,
        False,
        {
            "Cookware": "pan|skillet saucepan|pot wok|stirfryer",
            "Appliances": "kettle|boiler toaster|griller blender|mixer",
            "Tableware": "mug|cup plate|dish bowl|basin",
            "Storage": "thermos|flask lunchbox|bento jar|canister",
        },
        "steel|inox ceramic|porcelain castiron|iron bamboo|cane copper|cuprum enamel|vitreous",
        "nonstick|stickfree spillproof|leakproof stackable|nestable heatproof|ovenproof induction|hob insulating|warmkeeping",
        "0.5 L,1.5 L,24 cm,28 cm,set of 4",
    ),
    "Home": Department(
        60.0,
        False,
        {
            "Furniture": "chair|armchair desk|workstation shelf|bookcase",
            "Bedding": "pillow|cushion blanket|throw duvet|comforter",
            "Lighting": "lamp|luminaire chandelier|pendant nightlight|glowlight",
            "Decor": "vase|urn rug|carpet mirror|glassframe",
        },
        "oak|hardwood rattan|wicker velvet|velour marble|stone jute|hessian walnut|nutwood",
        "foldable|collapsible adjustable|tiltable washable|cleanable dimmable|fadable reversible|turnable stainproof|spotless",
        "40 cm,80 cm,120 cm,set of 2,king size",
    ),
    "Sports": Department(
        45.0,
        True,
        {
            "Fitness": "dumbbell|barbell treadmill|jogger rower|ergometer",
            "Camping": "tent|shelter backpack|rucksack hammock|slingbed",
            "Cycling": "bicycle|bike helmet|headgear pannier|bikebag",
            "Water": "kayak|canoe wetsuit|divesuit paddle|oar",
        },
        "nylon|polyamide neoprene|foamrubber graphite|graphene ripstop|cordura mesh|netting magnesium|elektron",
        "sweatproof|moisturewicking inflatable|blowup reflective|hivis grippy|nonslip cushioned|padded floating|buoyant",
        "10 kg,20 kg,size 54,size 58,40 L",
    ),
    "Beauty": Department(
        25.0,
        True,
        {
            "Skincare": "moisturizer|cream serum|essence cleanser|facewash",
            "Makeup": "lipstick|lipcolour mascara|lashliner foundation|concealer",
            "Hair": "shampoo|hairwash conditioner|hairmask hairdryer|blowdryer",
            "Fragrance": "perfume|scent deodorant|antiperspirant cologne|aftershave",
        },
        "aloe|agave argan|morocco collagen|peptide shea|karite jojoba|simmondsia charcoal|activecarbon",
        "hydrating|moistening antiaging|antiwrinkle soothing|calming volumizing|thickening "
        "longwear|longlasting brightening|glow",
        "30 ml,50 ml,100 ml,250 ml,set of 3",
    ),
    "Toys": Department(
        22.0,
        False,
        {
            "Building": "blocks|bricks puzzle|jigsaw marblerun|ballrun",
            "Dolls": "doll|figurine plushie|teddy puppet|marionette",
            "Games": "boardgame|tabletop cards|deck chess|chessboard",
            "Rides": "scooter|kickboard kite|windsail trampoline|bouncer",
        },
        "beech|timber foam|eva felt|feltwool cardboard|paperboard vinyl|pvc fleece|polar",
        "magnetic|magnet musical|singing educational|learning glowing|luminous interactive|talking sensory|tactile",
        "50 pieces,100 pieces,500 pieces,age 3+,age 8+",
    ),
    "Garden": Department(
        38.0,
        False,
        {
            "Tools": "shovel|spade pruner|secateurs rake|hoe",
            "Watering": "hose|gardenpipe sprinkler|mister wateringcan|sprayer",
            "Patio": "grill|barbecue parasol|sunshade bench|gardenseat",
            "Planting": "planter|flowerpot trellis|lattice composter|wormery",
        },
        "cedar|redwood terracotta|clay zinc|galvanized teak|djati resin|polyrattan brass|messing",
        "rustproof|corrosionfree frostproof|winterproof telescopic|extendable "
        "solar|sunpowered ergonomic|handfriendly uvproof|fadeproof",
        "10 m,20 m,30 L,60 cm,180 cm",
    ),
    "Pets": Department(
        20.0,
        False,
        {
            "Dogs": "leash|lead collar|neckband kennel|doghouse",
            "Cats": "scratcher|clawpost litterbox|cattray catnip|catgrass",
            "Aquaria": "aquarium|fishtank terrarium|vivarium birdcage|aviary",
            "Feeding": "feeder|dispenser kibble|petfood fountain|drinker",
        },
        "sisal|agavecord hemp|bast plush|pile rope|cord acrylic|plexi wickerwork|basketry",
        "chewproof|biteproof odourfree|smellfree automatic|timed escapeproof|secure cooling|chilled orthopedic|supportive",
        "1 kg,5 kg,small breed,large breed,60 L",
    ),
    "Office": Department(
        18.0,
        False,
        {
            "Writing": "pen|ballpoint pencil|crayon marker|highlighter",
            "Paper": "notebook|jotter planner|diary binder|folder",
            "Machines": "printer|inkjet shredder|papercutter calculator|adder",
            "Desktop": "stapler|tacker organizer|caddy whiteboard|easel",
        },
        "recycled|upcycled cork|suber chrome|chromium kraft|brownpaper leatherette|pleather birch|betula",
        "refillable|reusable erasable|rubout quickdry|smudgefree networked|wlan duplex|doublesided lockable|keyed",
        "A4,A5,0.5 mm,pack of 10,pack of 50",
    ),
    "Baby": Department(
        30.0,
        False,
        {
            "Travel": "stroller|pram carseat|babyseat carrier|babysling",
            "Meals": "babybottle|feedingbottle bib|dribbler highchair|boosterchair",
            "Sleep": "crib|cot swaddle|wrap babymonitor|babycam",
            "Care": "diaper|nappy wipes|towelettes pacifier|soother",
        },
        "organic|biocotton muslin|gauze pine|softwood latex|caoutchouc lyocell|tencel terry|towelling",
        "hypoallergenic|skinfriendly anticolic|ventedflow absorbent|superdry sterile|germfree "
        "rocking|swinging convertible|growing",
        "0-6 months,6-12 months,1-3 years,pack of 24,pack of 72",
    ),
    "Music": Department(
        90.0,
        False,
        {
            "Strings": "guitar|fretboard violin|fiddle ukulele|uke",
            "Keys": "piano|grand synthesizer|synth accordion|squeezebox",
            "Percussion": "drum|snare cajon|boxdrum tambourine|jingledrum",
            "Wind": "flute|piccolo saxophone|sax trumpet|cornet",
        },
        "mahogany|sapele spruce|tonewood rosewood|palisander maple|acer ebony|blackwood nickel|nickelsilver",
        "acoustic|unplugged amplified|electric tunable|stringlock portable|carryable weighted|hammered resonant|sonorous",
        "student size,3/4 size,full size,61 keys,88 keys",
    ),
}
"""12 departments of 4 groups of 3 nouns. A small catalogue uses the first departments, a larger one more of them."""

VARIANTS = ("mini", "travel", "deluxe", "outdoor")
"""Prefixes of a noun that make further leaf categories ("mini kettle"), for catalogues that need more than the plain nouns."""

STYLES = (
    "retro|vintage minimalist|plain boho|bohemian classic|timeless sporty|athletic elegant|refined urban|street "
    "rustic|farmhouse playful|fun futuristic|scifi"
)
COLORS = (
    "coral|salmon navy|darkblue olive|khaki ivory|offwhite black|jet white|snow burgundy|maroon mustard|ochre "
    "turquoise|aqua lavender|lilac grey|charcoalgrey emerald|jade"
)
PATTERNS = "striped|lined checked|plaid floral|flowery dotted|polka geometric|angular camouflage|camo"
SEASONS = "spring|springtime summer|summertime autumn|fall winter|wintertime"
MODIFIERS = "lightweight|featherlight compact|small slim|thin oversized|xxl durable|sturdy soft|cosy"
SCENES = "office|work beach|seaside party|festive camping|camp weekend|leisure commute|commuting"
AUDIENCES = {"women": "women's", "men": "men's", "kids": "kids'", "unisex": "unisex", "family": "family", "student": "student"}
"""Form of each audience in titles; the first four audiences belong to gendered departments."""
MARKETING = ("bestseller", "new arrival", "limited edition", "eco choice", "gift idea")
PRICE_WORDS = ("budget", "mid-range", "premium")
REGIONS = ("north", "south", "east", "west", "coast", "highlands")
SERIES = tuple(
    "Summit Aurora Horizon Pulse Nova Harbor Ember Willow Atlas Orbit Breeze Canyon Drift Echo Fjord "
    "Glacier Haven Iris Juniper Kestrel Lumen Meadow Nimbus Onyx Prairie Quartz Ridge Solstice Tundra Vista".split()
)
FILLERS = ("best", "new", "cheap", "good", "buy", "quality", "top", "modern")
"""Words that a query adds and that name no attribute, most frequent first."""
GENDERS = ("female", "male", "unspecified")
AGE_BUCKETS = ("18-24", "25-34", "35-44", "45-54", "55+")


def split_pairs(text: str) -> list[tuple[str, str]]:
    """Split a word table into words with their synonyms.

    Example:
        >>> split_pairs("red|crimson tall|high")
        [('red', 'crimson'), ('tall', 'high')]
    """
    pairs = [pair.partition("|") for pair in text.split()]
    return [(word, synonym) for word, _, synonym in pairs]
