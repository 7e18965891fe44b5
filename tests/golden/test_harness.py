"""The harness itself: it passes what is right and fails what is wrong or unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.golden.harness import Comparison, GoldenFile, check, compare, listed_files

OWN = Path(__file__).parent / "own"


@pytest.mark.parametrize("name", listed_files(OWN))
def test_our_own_small_set(name: str) -> None:
    assert not [result for result in check(GoldenFile(OWN, name)) if result.differing]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of one file of our own, listed."""
    (tmp_path / "fixed").mkdir()
    shutil.copy(OWN / "fixed" / "W5_I2_s.npz", tmp_path / "fixed")
    (tmp_path / "index.json").write_text(json.dumps({"files": {"fixed/W5_I2_s.npz": {}}}))
    return tmp_path


def rewrite(folder: Path, name: str, **changes: np.ndarray) -> GoldenFile:
    file = GoldenFile(folder, "fixed/W5_I2_s.npz")
    arrays = {**file.arrays, **changes}
    (folder / name).parent.mkdir(exist_ok=True)
    np.savez(folder / name, **arrays)
    return GoldenFile(folder, name)


def test_one_wrong_code_is_found(folder: Path) -> None:
    codes = GoldenFile(folder, "fixed/W5_I2_s.npz")["AP_TRN.AP_SAT"].copy()
    codes[7] += 1
    results = check(rewrite(folder, "fixed/W5_I2_s.npz", **{"AP_TRN.AP_SAT": codes}))
    assert [(r.what, r.differing) for r in results if r.differing] == [("AP_TRN.AP_SAT", 1)]


def test_unknown_families_forms_and_arrays_fail(folder: Path) -> None:
    for name in ("novel/W5_I2_s.npz", "fixed/novel.npz"):
        with pytest.raises(LookupError, match="no family module knows"):
            check(rewrite(folder, name))
    with pytest.raises(LookupError, match="no family module knows the arrays novel"):
        np.savez(folder / "mx.npz", x=np.zeros(3))
        (folder / "numfmt").mkdir()
        known = GoldenFile(OWN, "numfmt/round_ocp_e3m2.npz").arrays
        np.savez(folder / "numfmt" / "mldtypes_float6_e3m2fn.npz", novel=np.zeros(3), **_mldtypes(known))
        check(GoldenFile(folder, "numfmt/mldtypes_float6_e3m2fn.npz"))


def _mldtypes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    x, codes, table = arrays["x"], arrays["TiesToEven.sat"], arrays["table"]
    wide = {"x64": x.astype(np.float64), "value_exact_f64": table[codes], "code_ml_dtypes_f64": codes}
    return {"x": x, "table": table, "code_ml_dtypes_f32": codes, "__meta__": arrays["__meta__"], **wide}


def test_an_empty_folder_and_a_missing_family_fail(folder: Path, tmp_path: Path) -> None:
    assert listed_files(folder) == ["fixed/W5_I2_s.npz"] == listed_files(folder, ["fixed"])
    with pytest.raises(LookupError, match="no file of family mx"):
        listed_files(folder, ["mx"])
    (folder / "index.json").write_text('{"files": {}}')
    with pytest.raises(LookupError, match="lists no file"):
        listed_files(folder)
    with pytest.raises(LookupError, match="does not exist"):
        listed_files(tmp_path / "nowhere")


def test_comparison_is_bit_for_bit() -> None:
    ours, golden = np.array([0.0, np.nan, 1.0, 2.0]), np.array([-0.0, np.nan, 1.0, 2.5])
    assert compare("x", ours, golden).differing == 2
    assert compare("x", ours, golden, signs=False).differing == 1
    assert compare("x", ours, golden, allow=[True, True, False, True]) == Comparison("x", 4, 0, 2, "")
