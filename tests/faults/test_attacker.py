"""Files and folders made to do harm, each of a kind that once did."""

import gzip
import inspect
import json
import os
import re
import struct
import sys
import xml.dom.minidom
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from h5py import File
from PIL import Image
from safetensors.torch import save_file

import brainrdl as rdl
from brainrdl.arguments import did_you_mean
from brainrdl.exchange.npz import Npz
from brainrdl.files.locks import locked_file
from brainrdl.files.store import read_json
from brainrdl.fmri.bids import find_runs
from brainrdl.fmri.events import read_events
from brainrdl.fmri.images import open_image
from brainrdl.fmri.sidecars import read_sidecar
from brainrdl.ids import spelling, text_order
from brainrdl.plots import plot_mds, plot_rdms, save_plot
from brainrdl.stimuli.image_reading import read_rgb
from brainrdl.studies import load_fitted
from brainrdl.studies.brain.configuration import read_configuration
from brainrdl.studies.reports.files import read_json as read_report_json
from brainrdl.studies.reports.page import render
from brainrdl.training import read_manifest, save_model
from brainrdl.training.checkpoint import load_checkpoint


def refused(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def rdms(ids=("a", "b", "c"), name="IT"):
    return rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), list(ids), [name], "correlation")


# names


@pytest.mark.parametrize("name", ["$x^2$", "$\\nosuchthing$", "$\\frac{$", "$" + "{" * 60 + "x" + "}" * 60 + "$"])
def test_a_name_of_two_dollar_signs_is_drawn_as_it_is_written(name, tmp_path):
    assert plot_rdms(rdms(name=name)).axes[0].get_title() == name
    save_plot(rdms([name, "b", "c"]), tmp_path / "a.svg", kind="mds")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_control_characters_of_names_leave_an_svg_well_formed(tmp_path):
    odd = rdms(["a\x01", "b\x1b", "c\ufffe"], "x\x08")
    save_plot(odd, tmp_path / "a.svg", kind="mds")
    for svg in ((tmp_path / "a.svg").read_bytes(), render(plot_mds(odd), "svg")):
        xml.dom.minidom.parseString(svg)


def test_a_group_whose_name_begins_with_an_underscore_is_in_the_legend():
    figure = plot_mds(rdms(), groups=["_face", "_face", "house"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_face", "house"]


def test_numbers_of_any_length_within_ids_are_put_in_order():
    long = ["a" + "1" * 5000, "a" + "2" * 4999]
    assert text_order(long) == (0, long[1])
    assert text_order(["a01", "a1", "a٣"]) is None  # digits of any script are numbers


def test_long_names_are_not_compared_letter_by_letter():
    marks = "a" + "\u0316\u0301" * 100_000
    assert spelling(["b"], [marks, marks + "x"]) == ""
    draw = np.random.default_rng(0)
    known = ["".join(row) for row in draw.choice(list("ab"), (20_000, 190))]
    did_you_mean(known[0][::-1], known)  # hours without a limit
    assert did_you_mean("fase", ["face", "house"]) == "; did you mean 'face'?"


# sizes


def test_a_table_of_many_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{k}" for k in range(100_000)) + "\n")
    with refused(f"{path} has 100000 columns, expected at most 1000; keep those of the RDMs"):
        rdl.read_rdms(path)


def test_an_archive_of_many_members(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(5001):
            archive.writestr(f"{k}.npy", b"")
    with refused(f"{path} has 5001 members, expected at most 5000; save the arrays that are needed alone"):
        Npz(path)


def test_a_netcdf_file_of_many_variables(tmp_path):
    path = tmp_path / "a.nc"
    with File(path, "w") as file:
        for k in range(2001):
            file.create_dataset(f"v{k}", data=np.float32(1))
    with refused(f"{path} holds more than 2000 variables, which no file of RDMs does; save the RDMs alone"):
        rdl.read_rdms(path)


def test_numbers_and_values_of_yaml_without_end(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("seeds: 1" + ":1" * 90_000)
    with pytest.raises(ValueError, match=r"a\.yaml is not YAML: a number of 180,001 characters in line 1, column 8"):
        read_configuration(path)
    path.write_text("{" + "a," * 90_000 + "}")
    with refused(
        f"{path} holds more than 10,000 values by line 1, each alias (*name) written out, which no study needs; is it "
        "another file?"
    ):
        read_configuration(path)


@pytest.mark.parametrize("read", [lambda path: read_json(path, dict), read_report_json, read_sidecar])
def test_json_within_json_names_the_file(read, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is "):
        read(path)


def test_a_gzipped_table_that_becomes_a_thousand_times_as_large(tmp_path, monkeypatch):
    monkeypatch.setattr("brainrdl.files.budget._memory", lambda: 40_000_000)
    path = tmp_path / "events.tsv.gz"
    rows = b"1\t1\ta\n"
    path.write_bytes(gzip.compress(b"onset\tduration\ttrial_type\n" + rows))
    assert len(read_events(path, n_scans=10, t_r=2.0)) == 1
    path.write_bytes(gzip.compress(b"onset\tduration\ttrial_type\n" + rows * 100_000))
    with refused(
        f"{path}, a table, claims 10000064 bytes (as cells), more than the 10000000, a quarter of this machine's "
        "memory, that one file may take; if it is what you expect, give a larger max_bytes="
    ):
        read_events(path, n_scans=10, t_r=2.0)


def test_weights_whose_header_or_network_is_larger_than_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**24 + 1) + b" " * (2**24 + 1))
    with refused(
        f"{path} has a header of 16777217 bytes, more than the 16777216 that names and shapes of a network's weights "
        "take; it is damaged, or holds something else"
    ):
        read_manifest(path)
    student = {"model": "torchvision:regnet_y_128gf"}
    save_model(torch.nn.Linear(1, 1), path, {"student": student, "fitted_to": []})
    with refused(
        f"{path} holds another architecture than torchvision:regnet_y_128gf, whose weights take 2579251576 bytes: the "
        f"file has {path.stat().st_size}"
    ):
        load_fitted(path)
    save_file({"w": torch.zeros(1)}, path, {"manifest": "[" * 100_000})
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} has a manifest that is no JSON object"):
        read_manifest(path)


def test_surface_files_are_not_unpacked_to_be_refused(tmp_path):
    path = tmp_path / "a.gii"
    path.write_text('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><GIFTI/>')
    with refused(
        f"{path} holds a GiftiImage, which is no volume; expected a NIfTI file (surfaces are given as nilearn "
        "SurfaceImages)"
    ):
        open_image(path)


# images


def test_pictures_whose_files_explain_no_such_work(tmp_path):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P3\n1 1\n255\n" + b"#\n" * 50_000 + b"1 2 3")
    with refused(f"{path} has 100016 bytes for 1 x 1 pixels, more than 65568; save the picture anew"):
        read_rgb(path)
    path.write_bytes(b"P6\n" + b"#" * 30_000)
    with refused(
        f"{path} cannot be read as an image (no size in its first 16 kB); replace the file or take it out of the "
        "folder",
        OSError,
    ):
        read_rgb(path)
    path.write_bytes(b"P3\n# made by hand\n1 1\n255\n1 2 3\n")
    assert read_rgb(path).getpixel((0, 0)) == (1, 2, 3)
    content = BytesIO()
    Image.new("L", (30, 30)).save(content, "JPEG", progressive=True)
    whole, path = content.getvalue(), tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_rgb(path).size == (30, 30)
    last = whole.rfind(b"\xff\xda")
    path.write_bytes(whole[:last] + whole[last:-2] * 300 + whole[-2:])
    with pytest.raises(ValueError, match=r"a\.jpg has 305 scans, more than 200, and may be made to take hours; save"):
        read_rgb(path)


def test_folders_and_links_without_end(tmp_path):
    deep = tmp_path / "deep"
    (deep / "/".join("d" * 102)).mkdir(parents=True)
    with refused(f"{deep} has folders within folders, more than 100 deep; are they a mistake?"):
        rdl.StimulusSet.from_folder(deep)
    chain = tmp_path / "chain"
    chain.mkdir()
    Image.new("RGB", (2, 2)).save(chain / "a.png")
    for k in range(60):
        os.symlink(f"l{k - 1}.png" if k else "a.png", chain / f"l{k}.png")
    with pytest.warns(UserWarning, match="as they are links to what is there under its own name"):
        stimuli = rdl.StimulusSet.from_folder(chain)
    assert "a" in stimuli.ids
    assert "l0" not in stimuli.ids
    assert "l59" in stimuli.ids  # which no system opens


# pipes


def test_pipes_are_not_waited_for(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with refused(f"{path} is neither a file nor a link to one; name another path for the checkpoint"):
        load_checkpoint(path, {})
    with pytest.raises(OSError, match="No such device"), locked_file(path, "held"):
        pass
    with refused(f"[Errno 22] neither a file nor a link to one: '{path}'", OSError):
        read_sidecar(path)


def test_json_of_many_small_parts_is_counted_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("brainrdl.files.budget._memory", lambda: 4_000_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [[]] * 20_000}))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: its JSON, as objects, claims "):
        read_json(path, dict)


def test_torch_s_archive_is_counted_unpacked(tmp_path, monkeypatch):
    from brainrdl.named_models import _load_weights

    monkeypatch.setattr("brainrdl.files.budget._memory", lambda: 4_000_000)
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes(2_000_000))
    with refused(
        f"{path}: its content claims 2000000 bytes, more than the 1000000, a quarter of this machine's memory, that "
        "one file may take; if it is what you expect, give a larger max_bytes="
    ):
        _load_weights(torch.nn.Linear(1, 1), path)


def test_a_lock_that_is_a_link_makes_no_file_elsewhere(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked_file(tmp_path / ".lock", "held"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_bids_folder_of_folders_without_end(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "derivatives" / "sub-1").joinpath(*"d" * 200).mkdir(parents=True)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)  # a folder too deep for it by default could hardly be removed
    try:
        with refused(f"{tmp_path / 'derivatives' / 'sub-1'} has folders too deep within folders; are they a mistake?"):
            find_runs(tmp_path, "x")
    finally:
        sys.setrecursionlimit(before)
