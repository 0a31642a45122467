"""`LatentDataset` and `LatentTorchDataset`: errors of samples, indices, PyTorch's loaders, arguments."""

import io
import os
import pickle
import tarfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sdtrt
from sdtrt.dataset import LatentDataset
from sdtrt.dataset.runner import Summary
from sdtrt.errors import ImageWarning

# Loaders here have more workers than some machines have cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
Running = Callable[..., Summary]
COUNT = 7


@pytest.fixture
def packed(running: Running, folder: str, tmp_path: Path) -> Path:
    running("encode", folder, str(tmp_path / "packed"))
    return tmp_path / "packed"


@pytest.fixture
def broken(packed: Path) -> Path:
    """A dataset whose second sample is damaged, third is missing and last is not an `.sdt` file."""
    files = sorted(packed.rglob("*.sdt"))
    files[1].write_bytes(files[1].read_bytes()[:-9] + bytes(9))
    files[2].unlink()
    files[-1].write_bytes(b"?" * files[-1].stat().st_size)
    return packed


def test_latent_dataset_damaged_samples_raise_with_notes_and_the_rest_loads(broken: Path) -> None:
    samples, keys, errors = iter(LatentDataset(str(broken))), [], []
    while True:
        try:
            keys.append(next(samples)[0])
        except StopIteration:
            break
        except (sdtrt.SdtrtError, OSError) as error:
            errors.append((type(error), *error.__notes__))
    places = [f"{broken}/part {n % 2}/{n}.sdt" for n in (2, 4, 5)]
    assert errors == [
        (sdtrt.FormatError, f"sample 'part 0/2' of {places[0]}"),
        (FileNotFoundError, f"sample 'part 0/4' of {places[1]}"),
        (sdtrt.FormatError, f"sample 'part 1/5' of {places[2]}"),
    ]
    assert keys == ["part 0/0", "part 0/6", "part 1/1", "part 1/3"]
    with pytest.raises(StopIteration):
        next(samples)


def test_latent_dataset_skip_warns_with_the_sample(broken: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keys = [key for key, _, _ in LatentDataset(str(broken), on_error="skip")]
    assert keys == ["part 0/0", "part 0/6", "part 1/1", "part 1/3"]
    assert [one.category for one in caught] == [ImageWarning] * 3
    for one, n in zip(caught, (2, 4, 5), strict=True):
        assert f"part {n % 2}/{n} of {broken}/part {n % 2}/{n}.sdt" in str(one.message)
        assert "object at 0x" not in str(one.message)
    with pytest.raises(ValueError, match="'ignore', expected 'raise' or 'skip'"):
        LatentDataset(str(broken), on_error="ignore")


def test_latent_dataset_error_names_tar_offset_or_row(running: Running, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name in ("a.sdt", "b.sdt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"SDT"))
    parquet.write_table(pyarrow.table({"sdt": [b"SDT", None], "key": ["a", "b"]}), tmp_path / "p.parquet")
    for source, place in ((tmp_path / "s.tar", "byte 1536"), (tmp_path / "p.parquet", "row 1")):
        with pytest.raises((sdtrt.FormatError, ValueError)) as caught:
            LatentDataset(str(source))[1]
        assert caught.value.__notes__ == [f"sample 'b' of {source}, {place}"]


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_latent_dataset_index_loads_in_any_order(running: Running, folder: str, tmp_path: Path, form: str) -> None:
    running("encode", folder, str(tmp_path / "packed"), form=form)
    loader = LatentDataset(str(tmp_path / "packed"))
    in_order = list(loader)
    for number in (6, 0, 3, -1, 3):
        key, latents, _ = loader[number]
        assert (key, latents.tobytes()) == (in_order[number][0], in_order[number][1].tobytes())
    for wrong in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match=f"sample {wrong} of {COUNT}"):
            loader[wrong]
    with ThreadPoolExecutor(4) as pool:
        assert [key for key, _, _ in pool.map(loader.__getitem__, [*range(COUNT)] * 3)] == [
            key for key, _, _ in in_order
        ] * 3
    assert pickle.loads(pickle.dumps(loader))[2][0] == in_order[2][0]


def test_latent_dataset_index_after_fork_opens_its_own_file(running: Running, folder: str, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    running("encode", folder, str(tmp_path / "packed"), form="tar", shard_size=9)
    loader = LatentDataset(str(tmp_path / "packed"))
    loader[0]
    reader = loader._readers.reader()
    child = os.fork()
    if child == 0:
        os._exit(0 if loader._readers.reader() is not reader and loader[3][0] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert loader._readers.reader() is reader


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_latent_dataset_works_with_a_torch_loader(
    running: Running, folder: str, tmp_path: Path, image_files: dict[str, bytes], workers: int, form: str
) -> None:
    from torch.utils.data import DataLoader

    running("encode", folder, str(tmp_path / "packed"), form=form)
    loader = DataLoader(LatentDataset(str(tmp_path / "packed")), batch_size=2, num_workers=workers, shuffle=True)
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    assert sorted(key for keys, _, _ in batches for key in keys) == sorted(image_files)
    assert {tuple(latents.shape[1:]) for _, latents, _ in batches} == {(40, 2, 3)}


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_dataset_ranks_and_workers_share_samples(
    packed: Path, image_files: dict[str, bytes], workers: int
) -> None:
    from torch.utils.data import DataLoader

    from sdtrt.dataset.torch_dataset import LatentTorchDataset

    for shuffle in (False, True):
        keys: list[str] = []
        for rank in range(3):
            dataset = LatentTorchDataset(str(packed), rank=rank, world_size=3, shuffle=shuffle, seed=5)
            found = [key for key, _, _ in DataLoader(dataset, batch_size=None, num_workers=workers)]
            assert len(found) == len(dataset)
            keys += found
        assert sorted(keys) == sorted(image_files)


def test_torch_dataset_set_epoch_changes_the_order_in_workers(packed: Path) -> None:
    from torch.utils.data import DataLoader

    from sdtrt.dataset.torch_dataset import LatentTorchDataset

    dataset = LatentTorchDataset(str(packed), shuffle=True, seed=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append([key for key, _, _ in loader])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert [key for key, _, _ in dataset] == orders[0]
    for wrong in ({"rank": 1}, {"rank": -1, "world_size": 2}, {"seed": -1}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
            LatentTorchDataset(str(packed), **wrong)
    with pytest.raises(ValueError, match="epoch"):
        dataset.set_epoch(-1)


def test_torch_dataset_default_rank_is_that_of_torch_distributed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sdtrt.dataset.torch_dataset import LatentTorchDataset

    assert len(LatentTorchDataset(str(packed))) == COUNT
    for name, value in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    assert len(LatentTorchDataset(str(packed))) == 3
    assert len(LatentTorchDataset(str(packed), rank=0, world_size=1)) == COUNT


def test_torch_dataset_damaged_sample_is_named_in_workers(broken: Path) -> None:
    from torch.utils.data import DataLoader

    from sdtrt.dataset.torch_dataset import LatentTorchDataset

    for workers in (0, 2):
        with pytest.raises((sdtrt.FormatError, OSError)) as caught:
            list(DataLoader(LatentTorchDataset(str(broken)), batch_size=None, num_workers=workers))
        text = str(caught.value) + str(getattr(caught.value, "__notes__", ""))
        assert "sample 'part " in text
    loader = DataLoader(LatentTorchDataset(str(broken), on_error="skip"), batch_size=None, num_workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        assert len(list(loader)) == COUNT - 3


@pytest.mark.parametrize("part", [5, None, (0,), (0, 1, 2), ("0", 1), (0, 1.5), (False, True), "01"])
def test_latent_dataset_invalid_part_is_a_type_error(folder: str, part: Any) -> None:
    with pytest.raises(TypeError, match=r"^part is .*, expected"):
        LatentDataset(folder, part=part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank 2 of world_size 2"),
        ({"rank": 3}, "rank 3 of world_size 1"),
        ({"rank": -1}, "rank is -1, expected"),
        ({"rank": "0"}, "rank is '0'"),
        ({"world_size": 0}, "world_size is 0"),
        ({"world_size": 2.0}, "world_size is 2.0"),
        ({"world_size": True}, "world_size is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"shuffle": "no"}, "shuffle is 'no'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
    ],
)
def test_torch_dataset_invalid_argument_is_refused(folder: str, options: dict[str, Any], message: str) -> None:
    torch_dataset = pytest.importorskip("sdtrt.dataset.torch_dataset")
    with pytest.raises((TypeError, ValueError), match=message):
        torch_dataset.LatentTorchDataset(folder, **options)


@pytest.mark.parametrize("epoch", [-1, 1.5, "1", True, 1 << 63])
def test_torch_dataset_invalid_epoch_is_refused(running: Running, folder: str, tmp_path: Path, epoch: Any) -> None:
    torch_dataset = pytest.importorskip("sdtrt.dataset.torch_dataset")
    running("encode", folder, str(tmp_path / "out"))
    with pytest.raises((TypeError, ValueError), match=r"^epoch is"):
        torch_dataset.LatentTorchDataset(str(tmp_path / "out")).set_epoch(epoch)
