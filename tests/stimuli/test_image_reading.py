"""A file as a picture in RGB: the right value of what viewers show, or an error."""

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from brainrdl.files.budget import allowed_bytes
from brainrdl.stimuli.image_reading import read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth=8, colour=2, rows=b"", *more):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(samples, bits, sample_format, photometric, content):
    """A TIFF of one strip, 2 x 2 pixels."""
    many = struct.pack(f"<{samples}H", *[bits] * samples)
    formats = struct.pack(f"<{samples}H", *[sample_format] * samples)
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, samples, many), (259, 3, 1, 1), (262, 3, 1, photometric)]
    entries += [(273, 4, 1, None), (277, 3, 1, samples), (278, 3, 1, 2), (279, 4, 1, len(content))]
    entries += [(339, 3, samples, formats)]
    place = 8 + 2 + 12 * len(entries) + 4
    extra, table = b"", struct.pack("<H", len(entries))
    strip = place + sum(len(value) for *_, value in entries if isinstance(value, bytes) and len(value) > 4)
    for tag, kind, count, value in entries:
        table += struct.pack("<HHI", tag, kind, count)
        if isinstance(value, bytes) and len(value) > 4:
            table += struct.pack("<I", place + len(extra))
            extra += value
        elif isinstance(value, bytes):
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack("<I", strip if value is None else value)
    return b"II*\0" + struct.pack("<I", 8) + table + bytes(4) + extra + content


# orientation


def turned(shown, orientation):
    """The pixels that a camera stores, so that viewers show `shown`."""
    return {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1),
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_an_image_is_upright_as_viewers_show_it(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    # smooth, so that JPEG keeps it
    shown = np.stack([np.add.outer(np.arange(16) * 6, np.arange(24) * 5)] * 3, -1).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(turned(shown, orientation)))
    lossless = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    picture.save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    got = np.asarray(read_rgb(tmp_path / f"a.{suffix}")).astype(int)
    assert got.shape == shown.shape
    assert np.abs(got - shown).max() <= (3 if suffix == "jpg" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), PIXELS)


def test_damaged_exif_data_are_named_and_turn_nothing(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 2, 8, 0, b"\0\x00\0\xff", chunk(b"eXIf", b"neither II nor MM")))
    with pytest.warns(
        UserWarning, match=f"^{re.escape(str(path))}: its EXIF data are damaged .*; it is taken as it is "
    ):
        assert read_rgb(path).size == (1, 2)


# depth


@pytest.mark.parametrize(
    ("colour", "channels", "mode"), [(0, 1, "I;16"), (2, 3, "RGB;16B"), (4, 2, "LA;16B"), (6, 4, "RGBA;16B")]
)
def test_sixteen_bits_of_png_are_refused(tmp_path, colour, channels, mode):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, colour, b"\0" + b"\xff" * 4 * channels))
    with raises(
        ValueError,
        f"{path} has more than 8 bits per channel (mode {mode}), which RGB would cut off; save it with 8 bits, scaled "
        "as it was shown",
    ):
        read_rgb(path)


@pytest.mark.parametrize(
    ("samples", "bits", "sample_format", "mode"),
    [
        (1, 16, 1, "I;16"),
        (3, 16, 1, "RGB;16"),
        (4, 16, 1, "RGBX;16"),
        (1, 32, 3, "F"),
        (1, 32, 1, "I"),
        (1, 16, 2, "I;16S"),
        (1, 8, 2, "L;8"),
    ],
)
def test_deep_and_signed_tiff_is_refused(tmp_path, samples, bits, sample_format, mode):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(samples, bits, sample_format, 1 if samples == 1 else 2, bytes(4 * samples * bits // 8)))
    with pytest.raises(ValueError, match=re.escape(f"{path} has more than 8 bits per channel (mode ")):
        read_rgb(path)


@pytest.mark.parametrize("content", [b"P5 2 1 65535\n" + b"\1\2" * 2, b"P6 2 1 65535\n" + b"\1\2" * 6, b"P6 2 1 256\n"])
def test_deep_portable_maps_are_refused(tmp_path, content):
    (tmp_path / "a.ppm").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ppm has more than 8 bits per channel \(mode (I|RGB;16)\), which RGB"):
        read_rgb(tmp_path / "a.ppm")


def test_a_portable_map_of_few_levels_has_its_white(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 15\n\x00\x0f")
    assert np.asarray(read_rgb(tmp_path / "a.pgm")).tolist() == [[[0] * 3, [255] * 3]]


def test_eight_bits_of_tiff_are_read(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(3, 8, 1, 2, bytes(range(12))))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), np.arange(12).reshape(2, 2, 3))


# colours


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "tif"), ("CMYK", "jpg"), ("LAB", "tif")])
def test_colours_of_print_are_refused(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (4, 4)).save(path)
    with raises(
        ValueError,
        f"{path} is in {mode}, whose colours on a screen depend on a colour profile; save it in RGB as it was shown",
    ):
        read_rgb(path)


def test_grey_beside_colour_has_three_equal_channels(tmp_path):
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "b.bmp")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), read_rgb(tmp_path / "b.bmp"))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_transparent_colour_is_refused_where_it_is_used(tmp_path, mode):
    picture = Image.new("RGB", (4, 4), "white")
    picture.putpixel((0, 0), (0, 0, 0))
    picture = picture.convert(mode)
    path = tmp_path / "a.png"
    colour = picture.getpixel((0, 0))
    picture.save(path, transparency=colour)
    with raises(
        ValueError,
        f"{path} has transparent pixels, whose colour depends on the background; save it on the background that was "
        "shown",
    ):
        read_rgb(path)
    picture = Image.new("RGB", (4, 4), "white").convert(mode)
    opaque = picture.getpixel((0, 0))
    if mode == "P":
        return  # a palette drops the colours that are not used
    picture.save(path, transparency=colour if colour != opaque else 0)
    assert np.asarray(read_rgb(path)).min() == 255


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_several_frames_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with raises(ValueError, f"{path} holds several frames; a stimulus is one image, so save the frame that was shown"):
        read_rgb(path)


# hostile and damaged files


def test_a_small_file_of_many_pixels_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(12_000, 12_000, rows=bytes(1000)))
    with raises(
        ValueError,
        f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels, and may be made to fill the memory; save it in the "
        "size that was shown, or raise PIL.Image.MAX_IMAGE_PIXELS if it is what you expect",
    ):
        read_rgb(path)
    path.write_bytes(png(2**31 - 1, 2**31 - 1))
    with pytest.raises(ValueError, match="has more than"):
        read_rgb(path)


def test_the_budget_is_asked(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1000, 1000, rows=b""))
    with raises(
        ValueError,
        f"{path} claims 24000000 bytes (1000 x 1000 pixels), more than the 20000000 that one file may take; if it is "
        "what you expect, give a larger max_bytes=",
    ):
        read_rgb(path, 20_000_000)


def test_the_users_own_limit_of_pillow_counts(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(12_000, 12_000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("brainrdl.files.budget._memory", lambda: 2**32)
    with pytest.raises(ValueError, match=re.escape(f"more than the {allowed_bytes()}, a quarter of this machine's")):
        read_rgb(path)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"8BPS\0\1", b"SIMPLE  ="])
def test_other_formats_under_the_name_of_an_image_are_not_opened(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content + bytes(100))
    with raises(
        OSError,
        f"{path} cannot be read as an image (cannot identify image file {str(path)!r}); replace the file or take it "
        "out of the folder",
    ):
        read_rgb(path)


@pytest.mark.parametrize("pixels", [PIXELS, np.full((64, 64, 3), [255, 0, 0], dtype=np.uint8)])
def test_no_flipped_bit_of_a_png_goes_unseen(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    silent = []
    for position in range(0, 8 * len(whole), 5):
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = np.asarray(read_rgb(path))
        except (OSError, ValueError):
            continue
        if not np.array_equal(got, pixels):
            silent.append(position)
    assert silent == []


def test_no_part_of_a_png_goes_as_the_whole(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < len(whole) - 4:
            with pytest.raises(OSError, match="cannot be read as an image"):
                read_rgb(path)
        else:  # but for the checksum of the empty end
            np.testing.assert_array_equal(read_rgb(path), PIXELS)


def test_a_missing_file_is_named(tmp_path):
    with raises(
        OSError,
        f"{tmp_path / 'a.png'} cannot be read as an image ([Errno 2] No such file or directory: "
        f"'{tmp_path / 'a.png'}'); replace the file or take it out of the folder",
    ):
        read_rgb(tmp_path / "a.png")
