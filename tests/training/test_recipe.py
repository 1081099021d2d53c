"""Recipes are read strictly, and say what is wrong with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from maskstream.training.recipe import Recipe, SourceRecipe, load_recipe, recipe_names, recipe_text, what_decides
from maskstream.training.schedule import learning_rate, mixed
from maskstream.training.strict import parse, read
from maskstream.types import InputError
from tests.training.toy import toy_recipe

SHIPPED = (
    "backbone-tiny",
    "click-small",
    "core-cityscapes",
    "core-coco",
    "core-tiny",
    "core-vspw",
    "deva-static",
    "deva-video",
    "finetune-propagation",
    "flow-tiny",
    "motion-small",
    "mpvss-cityscapes",
    "mpvss-tiny",
    "mpvss-vspw",
    "propagate-small",
    "propagate-synthetic",
    "tarvis-image",
    "tarvis-tiny",
    "tarvis-video",
    "tubelink-kitti-step",
    "tubelink-ovis",
    "tubelink-tiny",
    "tubelink-vipseg",
    "tubelink-vipseg-vss",
    "tubelink-vspw",
    "tubelink-ytvis-2019",
    "tubelink-ytvis-2021",
    "univs-image",
    "univs-long",
    "univs-tiny",
    "univs-video",
)


def test_these_recipes_are_shipped():
    assert tuple(recipe_names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_written_with_every_setting_is_the_same_recipe(name):
    recipe = load_recipe(name)
    assert read(Recipe, parse(recipe_text(recipe), where="here"), where="here") == recipe


def test_the_first_stage_is_as_published():
    recipe = load_recipe("deva-static")
    repeats = {source.key: source.repeat for source in recipe.data.sources}
    assert repeats == {"fss-1000": 1, "duts-tr": 1, "duts-te": 1, "ecssd": 1, "big": 5, "hrsod": 5}
    assert {(source.name, source.augmentation) for source in recipe.data.sources} == {("saliency", "static")}
    train, task = recipe.train, recipe.task
    assert (train.steps, train.batch, train.lr, train.schedule) == (80_000, 16, 2e-5, "constant")
    assert (task.frames, task.objects, task.memory_frames, task.bootstrap) == (3, 1, 2, (10_000, 35_000))


def test_the_second_stage_is_as_published():
    recipe = load_recipe("deva-video")
    sources = {source.key: (source.split, source.repeat, source.every) for source in recipe.data.sources}
    assert sources == {"davis-2017": ("train", 5, 1), "ytvos-2019": ("train", 1, 5), "ovis": ("train", 3, 5)}
    train, task = recipe.train, recipe.task
    assert (train.steps, train.batch, train.lr) == (150_000, 16, 1e-5)
    assert (train.schedule, train.milestones, train.gamma) == ("step", (120_000, 140_000), 0.1)
    assert (task.frames, task.objects, task.memory_frames) == (8, 3, 3)
    assert (task.deep_update, task.auxiliary, task.hardest) == (0.2, 0.1, 0.3)


@pytest.mark.parametrize("name", ["deva-static", "deva-video"])
def test_both_stages_share_what_was_published_for_both(name):
    recipe = load_recipe(name)
    train = recipe.train
    assert (train.weight_decay, train.clip_norm, train.warmup, train.seed) == (0.001, 3.0, 0, 14159265)
    assert (train.precision, recipe.data.size, recipe.model.frozen_normalisation) == ("fp32", 384, True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param("train.stps=3", "unknown key train.stps .*: did you mean train.steps?", id="a slip"),
        pytest.param("steps=3", "unknown key steps .*: did you mean train.steps?", id="the section forgotten"),
        pytest.param("tran.steps=3", "unknown key tran .*: did you mean train?", id="a slip in the section"),
        pytest.param(
            "data.sources.ovis.repat=2",
            "unknown key data.sources.ovis.repat .*: did you mean data.sources.ovis.repeat?",
            id="a slip in a source",
        ),
        pytest.param("data.sources.mose.repeat=2", "no 'mose'; there is davis-2017, ytvos-2019, ovis", id="no source"),
        pytest.param("train.lr=fast", "train.lr .* is 'fast': a number is expected", id="a word for a number"),
        pytest.param("train.steps=2.5", "train.steps .* is 2.5: a whole number is expected", id="half a step"),
        pytest.param("train.ema=yes", "train.ema .* is True: a number is expected", id="yes for a number"),
        pytest.param("train.steps=", "train.steps .* is empty: a whole number is expected", id="nothing"),
        pytest.param("train.steps=0", "train.steps .* is 0: 1 or more is expected", id="too few"),
        pytest.param("train.lr=0", "train.lr .* is 0.0: more than 0 is expected", id="not more than 0"),
        pytest.param("task.hardest=1.5", "task.hardest .* is 1.5: 0 to 1 is expected", id="more than all"),
        pytest.param("train.schedule=linear", "it is one of constant, step, cosine, poly", id="no such schedule"),
        pytest.param("task.bootstrap=[3]", "task.bootstrap .* has 1 entries: 2 are expected", id="half a range"),
        pytest.param("task.bootstrap=7", "task.bootstrap .* is 7: a list is expected", id="no range"),
        pytest.param("data=7", "data .* is 7: keys with values are expected", id="a number for a section"),
        pytest.param("data.sources=[{split: x}]", "data.sources.0.name is missing", id="a source without a name"),
        pytest.param("data.sources=[]", "data.sources are empty", id="no source at all"),
        pytest.param("roots=here", "roots .* is 'here': names with values are expected", id="a root without a name"),
        pytest.param("train.milestones=[3", "the value of train.milestones is no YAML", id="no YAML"),
        pytest.param("train.steps", "'train.steps' is no setting: write KEY=VALUE", id="no value"),
        pytest.param("data.size=100", "data.size is 100: a multiple of 16 is expected", id="no multiple of the stride"),
        pytest.param("task.bootstrap=[5, 5]", "from 5 to 5", id="an empty range"),
        pytest.param("train.schedule=cosine", "2 train.milestones", id="milestones without steps"),
        pytest.param("train.accumulate=3", "train.batch of 16 cannot be taken in 3 equal parts", id="unequal parts"),
        pytest.param("data.sources.ovis.weight=2", "has weight and repeat", id="two weights"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(setting, message):
    with pytest.raises(InputError, match=message):
        load_recipe("deva-video", [setting])


def test_settings_change_a_recipe_and_the_last_one_wins():
    recipe = load_recipe(
        "deva-video",
        ["train.steps=3", "train.steps=4", "train.lr=1e-4", "train.clip_norm=null", "roots.ovis=/x",
         "data.sources.ovis.repeat=0", "data.augmentation=aggressive"],
    )  # fmt: skip
    assert (recipe.train.steps, recipe.train.lr, recipe.train.clip_norm) == (4, 1e-4, None)
    assert recipe.roots == {"ovis": "/x"}
    assert [source.repeat for source in recipe.data.sources] == [5, 1, 0]
    assert recipe.data.augmentation == "aggressive"
    assert recipe.train.milestones == (120_000, 140_000)


def test_an_error_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("about: mine\ntrain: {stepps: 3}\ndata: {sources: [{name: synthetic}]}\n")
    with pytest.raises(InputError, match=r"unknown key train.stepps in mine.yaml: did you mean train.steps\?"):
        load_recipe(str(path), ["train.steps=3"])


def test_a_recipe_that_is_not_there_lists_those_that_are():
    with pytest.raises(InputError, match=r"no recipe propagate-smal .*known: backbone-tiny, .*propagate-synthetic"):
        load_recipe("propagate-smal")


def test_sources_of_one_data_set_need_names_of_their_own():
    recipe = toy_recipe()
    twice = (SourceRecipe(name="saliency"), SourceRecipe(name="saliency"))
    with pytest.raises(InputError, match="saliency, saliency"):
        replace(recipe, data=replace(recipe.data, sources=twice))


def test_how_long_a_run_goes_on_and_where_data_is_do_not_decide():
    free = ["train.steps=9", "train.max_minutes=1", "train.workers=0", "checkpoint.every=3", "validate.videos=1",
            "roots.ovis=/x"]  # fmt: skip
    assert what_decides(load_recipe("deva-video", free)) == what_decides(load_recipe("deva-video"))
    assert what_decides(load_recipe("deva-video", ["train.lr=1"])) != what_decides(load_recipe("deva-video"))


def test_the_learning_rate_rises_and_falls():
    def rates(**settings: object) -> list[float]:
        plan = toy_recipe(**{"steps": 8, "lr": 1.0, "warmup": 0, **settings}).train
        return [learning_rate(plan, n) for n in range(8)]

    assert rates(schedule="constant") == [1] * 8
    assert rates(schedule="constant", warmup=3) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert rates(schedule="step", milestones=(2, 6), gamma=0.5) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    cosine = rates(schedule="cosine")
    assert cosine[0] == 1
    assert cosine[4] == pytest.approx(0.5)
    assert 0 < cosine[-1] < 0.05
    assert cosine == sorted(cosine, reverse=True)
    assert rates(schedule="poly") == pytest.approx([(1 - n / 8) ** 0.9 for n in range(8)])


def test_every_iteration_of_every_seed_has_a_seed_of_its_own():
    seeds = {mixed(seed, number) for seed in range(5) for number in range(200)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_recipes_are_beside_the_code():
    import maskstream

    folder = Path(maskstream.__file__).parent / "recipes"
    assert {path.stem for path in folder.iterdir()} == set(SHIPPED)
