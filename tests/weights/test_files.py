"""From a file into a model, tensor by tensor; what does not fit or is damaged is named."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402
from weights.models import Everything, frozen_like, ids, layers  # noqa: E402


@pytest.fixture
def plain():
    return Everything().eval()


@pytest.fixture
def path(plain, tmp_path):
    fewbits.save(plain.state_dict(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def on_meta(make):
    with torch.device("meta"):
        return make().eval()


def test_a_meta_model_takes_its_weights_from_a_file(plain, path):
    model = weights.attach(on_meta(Everything), path)
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    assert model.own.packed.frame().obj is not None  # a view of the mapped file, not a copy
    assert torch.equal(model(ids()), frozen_like(plain, model)(ids()))


def test_loading_never_holds_the_unpacked_model(path, plain):
    model = weights.attach(on_meta(Everything), path)
    found = weights.report(model)
    assert found.counts.unpacked == 0 and found.scratch_bytes == 0


def test_shards_and_a_plain_file(plain, tmp_path):
    state = plain.state_dict()
    names = list(state)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, held in parts.items():
        fewbits.save({name: state[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    expected = None
    for source in (tmp_path, [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]):
        model = weights.attach(on_meta(Everything), source)
        expected = frozen_like(plain, model)(ids())
        assert torch.equal(model(ids()), expected)
    from safetensors.torch import save_file

    file = tmp_path / "plain.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, file)
    model = weights.attach(on_meta(Everything), file)
    assert isinstance(model.own, weights.PackedWeight)
    assert torch.equal(model(ids()), expected)


def test_a_remote_file_is_fetched_once(plain, path):
    import fsspec

    url = "memory://weights/m.safetensors"
    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())
    model = weights.attach(on_meta(Everything), url)
    fsspec.filesystem("memory").rm("/weights/m.safetensors")
    assert torch.equal(model(ids()), frozen_like(plain, model)(ids()))


def test_what_does_not_match_is_listed_and_nothing_changes(path):
    model = layers(64, 300, 20)
    model.own = torch.nn.Parameter(torch.zeros(64, 65, dtype=torch.float64))
    with pytest.raises(fewbits.FewbitsError) as error:
        weights.attach(model, path)
    text = str(error.value)
    for part in (
        "m.safetensors does not match the model: ",
        "missing 0.weight",
        "own is [64, 64], not [64, 65]",
        "own is float32, not float64",
        "left over embed.weight",
    ):
        assert part in text
    assert "\n" not in text
    assert not any(isinstance(p, weights.PackedWeight) for p in model.parameters())


def test_without_strict_what_is_missing_or_left_over_is_let_be(tmp_path):
    model = layers(64, 128, 64)
    path = tmp_path / "part.safetensors"
    fewbits.save({"0.weight": torch.ones(128, 64), "more": torch.zeros(3)}, path)
    with pytest.raises(fewbits.FewbitsError, match=r"missing 2\.weight"):
        weights.attach(on_meta(lambda: layers(64, 128, 64)), path, strict=False)
    weights.attach(model, path, strict=False)
    assert bool((model[0].weight == 1).all())


def test_a_damaged_frame_names_the_layer_in_the_forward_pass(plain, path):
    data = bytearray(path.read_bytes())
    with fewbits.open(path) as archive:
        entry = next(e for e in archive.container.entries if e.name == "lstm.weight_hh_l0")
        data[archive.container.data_start + entry.stop - 3000] ^= 1
    path.write_bytes(data)
    for options in ({}, {"fused": True}, {"prefetch": False}):
        model = weights.attach(on_meta(Everything), path, **options)
        with pytest.raises(
            fewbits.CorruptError, match=r"weight 'lstm\.weight_hh_l0': .*block 0 is"
        ):
            model(ids())


def test_a_damaged_header_shows_before_anything_is_loaded(path):
    data = bytearray(path.read_bytes())
    with fewbits.open(path) as archive:
        entry = next(e for e in archive.container.entries if e.name == "own")
        data[archive.container.data_start + entry.start + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(fewbits.CorruptError, match="tensor 'own': frame header is damaged"):
        weights.attach(on_meta(Everything), path)


def test_save_writes_what_rests(plain, path, tmp_path):
    model = weights.attach(on_meta(Everything), path)
    again = tmp_path / "again.safetensors"
    weights.save(model, again)
    assert again.read_bytes() == path.read_bytes()
    assert model.own.unpacker.counts.unpacked == 0
    weights.save(weights.attach(plain), again)
    loaded = fewbits.load(again, framework="pt")
    assert torch.equal(loaded["own"], plain.own.unpack())
    fewbits.save(model.state_dict(), again)  # by way of unpacked arrays
    assert again.read_bytes() == path.read_bytes()


def test_other_libraries_do_not_read_an_address(path):
    from safetensors.torch import save_file

    model = weights.attach(on_meta(Everything), path)
    with pytest.raises((RuntimeError, fewbits.FewbitsError)):
        save_file({"own": model.own.detach()}, Path(path.parent) / "x.safetensors")
    with pytest.raises(fewbits.FewbitsError, match="has no address in memory"):
        model.own.data_ptr()


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(fewbits.FewbitsError, match="no safetensors files in this folder"):
        weights.attach(layers(4, 4), tmp_path)


def test_a_meta_parameter_has_nothing_to_pack():
    with pytest.raises(fewbits.FewbitsError, match=r"'0\.weight' is on the meta device"):
        weights.attach(on_meta(lambda: layers(128, 128)))
