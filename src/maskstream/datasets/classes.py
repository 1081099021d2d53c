"""Label spaces of the benchmarks with a label for every pixel (datasets specification C1, C4, D)."""

from __future__ import annotations

from collections.abc import Collection

from maskstream.types import Category, CategorySet

_VSPW = """
wall ceiling door* stair ladder* escalator Playground_slide handrail_or_fence window* rail goal* pillar pole floor
ground grass sand athletic_field road path crosswalk building house bridge tower windmill well_or_well_lid
other_construction sky mountain stone wood ice snowfield grandstand sea river lake waterfall water
billboard_or_Bulletin_Board sculpture* pipeline flag* parasol_or_umbrella* cushion_or_carpet tent* roadblock* car* bus*
truck* bicycle* motorcycle* wheeled_machine ship_or_boat* raft* airplane* tyre traffic_light lamp person* cat* dog*
horse* cattle* other_animal* tree flower other_plant toy ball_net backboard skateboard* bat ball*
cupboard_or_showcase_or_storage_rack box* traveling_case_or_trolley_case* basket* bag_or_package* trash_can cage plate*
tub_or_bowl_or_pot* bottle_or_cup* barrel* fishbowl* bed* pillow* table_or_desk* chair_or_seat* bench* sofa* shelf
bathtub gun* commode* roaster* other_machine refrigerator* washing_machine* Microwave_oven* fan* curtain textiles
clothes painting_or_poster* mirror* flower_pot_or_vase* clock* book tool blackboard tissue screen_or_television*
computer* printer* Mobile_phone* keyboard* other_electronic_product fruit food instrument* train*
"""
"""A star marks what VIPSeg counts as things."""

_CITYSCAPES = """
7 road, 8 sidewalk, 11 building, 12 wall, 13 fence, 17 pole, 19 traffic light, 20 traffic sign, 21 vegetation,
22 terrain, 23 sky, 24 person, 25 rider, 26 car, 27 truck, 28 bus, 31 train, 32 motorcycle, 33 bicycle
"""
"""labelIds in the order of the train ids."""

_CAMVID = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car* Pedestrian* Bicyclist*"

_ADE20K = """
wall, building, sky, floor, tree, ceiling, road, bed*, windowpane*, grass, cabinet*, sidewalk, person*, earth, door*,
table*, mountain, plant, curtain*, chair*, car*, water, painting*, sofa*, shelf*, house, sea, mirror*, rug, field,
armchair*, seat*, fence*, desk*, rock, wardrobe*, lamp*, bathtub*, railing*, cushion*, base, box*, column*, signboard*,
chest of drawers*, counter*, sand, sink*, skyscraper, fireplace*, refrigerator*, grandstand, path, stairs*, runway,
case*, pool table*, pillow*, screen door*, stairway, river, bridge, bookcase*, blind, coffee table*, toilet*, flower*,
book*, hill, bench*, countertop*, stove*, palm*, kitchen island*, computer*, swivel chair*, boat*, bar, arcade machine*,
hovel, bus*, towel*, light*, truck*, tower, chandelier*, awning*, streetlight*, booth*, television receiver*, airplane*,
dirt track, apparel*, pole*, land, bannister*, escalator, ottoman*, bottle*, buffet, poster, stage, van*, ship*,
fountain*, conveyer belt, canopy, washer*, plaything*, swimming pool, stool*, barrel*, basket*, waterfall, tent, bag*,
minibike*, cradle, oven*, ball*, food*, step*, tank, trade name*, microwave*, pot*, animal*, bicycle*, lake,
dishwasher*, screen*, blanket, sculpture*, hood*, sconce*, vase*, traffic light*, tray*, ashcan*, fan*, pier,
crt screen, plate*, monitor*, bulletin board*, shower, radiator*, glass*, clock*, flag*
"""
"""SceneParse150; a star marks the things of its instance task."""


def _starred(name: str, names: list[str], *, first: int) -> CategorySet:
    """Categories counted from ``first``; a star behind the name of a thing."""
    stripped = [text.strip() for text in names]
    return CategorySet(
        name,
        tuple(Category(n, text.rstrip("*"), is_thing=text.endswith("*")) for n, text in enumerate(stripped, first)),
    )


def _cityscapes(name: str, things: Collection[str], *, train_ids: bool) -> CategorySet:
    rows = [row.split(maxsplit=1) for row in _CITYSCAPES.split(",")]
    return CategorySet(
        name,
        tuple(
            Category(position if train_ids else int(label_id), text.strip(), is_thing=text.strip() in things)
            for position, (label_id, text) in enumerate(rows)
        ),
    )


_CITYSCAPES_THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

VIPSEG = _starred("vipseg", _VSPW.split(), first=0)
"""124 categories, 58 of them things, with the ids of VIPSeg's JSON files, 0 to 123."""

VSPW = _starred("vspw", _VSPW.split(), first=1)
"""The same categories with the values of VSPW's masks, 1 to 124."""

CITYSCAPES = _cityscapes("cityscapes", _CITYSCAPES_THINGS, train_ids=False)
"""19 categories, 8 of them things. Ids are labelIds, 7 to 33; the position in the set is the train id."""

CITYSCAPES_VPS = _cityscapes("cityscapes-vps", _CITYSCAPES_THINGS, train_ids=True)
"""The same categories with train ids, 0 to 18."""

KITTI_STEP = _cityscapes("kitti-step", ("person", "car"), train_ids=True)
"""The same again, but only persons and cars are things."""

CAMVID = _starred("camvid", _CAMVID.split(), first=0)
"""11 categories, 0 to 10. It does not say what is a thing; here cars, pedestrians and bicyclists are."""

ADE20K = _starred("ade20k", _ADE20K.split(","), first=1)
"""150 categories, 1 to 150, 100 of them things."""
