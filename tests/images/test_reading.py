"""Pictures of every kind that people have are read as they look, and those that cannot be are named."""

import io
import struct
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sibx.datasets.broken import check_headers
from sibx.images import reading, to_pixels
from sibx.images.reading import Once, read_pixels, read_upright
from tests.helpers.formats import STORED

RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))  # black to white
ORIENTATION = 274


@pytest.fixture
def colors():
    """Blocks of 8 pixels, which JPEG and WebP keep."""
    blocks = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)


@pytest.fixture
def damaged(tmp_path):
    path = tmp_path / "half.png"
    noise = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    return path


def read(path):
    """Pixels (H, W, 3) in 0..255."""
    return 255 * read_pixels(path).permute(1, 2, 0).numpy()


class TestErrors:
    def test_the_file_is_named(self, damaged):
        with (
            Image.open(damaged) as picture,
            pytest.raises(OSError, match=r"the picture .*half.png cannot be read"),
        ):
            to_pixels(picture)

    def test_a_picture_without_a_file(self, damaged):
        picture = Image.open(io.BytesIO(damaged.read_bytes()))
        with pytest.raises(OSError, match="the picture without a file cannot be read"):
            to_pixels(picture)

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n and no more", b"<svg></svg>", None])
    @pytest.mark.parametrize("reader", [read_pixels, read_upright])
    def test_no_picture(self, tmp_path, content, reader):
        path = tmp_path / "no.png"
        path.mkdir() if content is None else path.write_bytes(content)
        with pytest.raises(OSError, match=r"^the picture .*no\.png cannot be read: "):
            reader(path)

    def test_a_claim_that_is_too_large(self, tmp_path, monkeypatch):
        """Whatever the file's size, and also of a picture within an icon that says another size."""
        monkeypatch.setattr(reading, "LARGEST", 5000)
        claim, inside, icon = (tmp_path / name for name in ("claim.gif", "inside.png", "icon.ico"))
        frame = b"," + struct.pack("<4H2B", 0, 0, 600, 9, 0, 2)
        claim.write_bytes(b"GIF89a" + struct.pack("<2H3B", 600, 9, 0, 0, 0) + frame)
        Image.new("L", (90, 60)).save(inside)
        content = inside.read_bytes()
        icon.write_bytes(struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(content), 22) + content)
        warnings.simplefilter("ignore")  # Pillow's, of the icon; pytest sets it back
        for path, size in ((claim, "600 x 9"), (inside, "90 x 60"), (icon, "90 x 60")):
            with pytest.raises(OSError, match=f"{path.name} .* claims {size} pixels, and at most 5,000 are read"):
                read_pixels(path)
        Image.new("L", (100, 50)).save(tmp_path / "just.png")
        read_pixels(tmp_path / "just.png")
        with pytest.raises(OSError, match=r"3 of 4 that do not: .*claims.*claims.*claims"):
            check_headers(tmp_path, dict.fromkeys(tmp_path.iterdir(), ()))

    def test_large_cameras(self):
        """150 million pixels are a photograph, and 200 million are more than Pillow opens, too."""
        reading.check_size(SimpleNamespace(width=14204, height=10652))
        with pytest.raises(ValueError, match=r"claims 16320 x 12240 pixels, and at most 178,956,970 are read"):
            reading.check_size(SimpleNamespace(width=16320, height=12240))
        assert reading.LARGEST == 2 * Image.MAX_IMAGE_PIXELS

    def test_an_array_is_none(self):
        with pytest.raises(ValueError, match=r"`picture` must be a picture of Pillow \(PIL.Image.fromarray"):
            to_pixels(np.zeros((2, 2, 3), np.uint8))

    def test_half_a_picture(self, damaged):
        for reader in (read_pixels, read_upright):
            with pytest.raises(OSError, match=r"^the picture .*half\.png cannot be read: .*truncated"):
                reader(damaged)


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
    def test_upright(self, tmp_path, colors, orientation, ending):
        path, exif = tmp_path / f"phone.{ending}", Image.Exif()
        exif[ORIENTATION] = orientation
        stored = np.ascontiguousarray(STORED[orientation](colors))
        exact = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
        Image.fromarray(stored).save(path, exif=exif, **exact)
        assert read(path) == pytest.approx(colors, abs=3)
        assert np.asarray(read_upright(path)) == pytest.approx(colors.astype(float), abs=3)

    def test_damaged_exif_data_are_no_reason_to_refuse(self, tmp_path, colors):
        path = tmp_path / "e.png"
        Image.fromarray(colors).save(path, exif=b"Exif\0\0garbage")
        assert read(path) == pytest.approx(colors)


class TestDepth:
    @pytest.mark.parametrize(
        ("ending", "dtype"), [("png", "u2"), ("tif", "<u2"), ("tif", ">u2"), ("pgm", ">u2"), ("tif", "f4")]
    )
    def test_a_ramp(self, tmp_path, ending, dtype):
        path = tmp_path / f"xray.{ending}"
        values = (RAMP if dtype == "f4" else (65535 * RAMP).round()).astype(dtype)
        if ending == "pgm":
            path.write_bytes(b"P5 64 8 65535\n" + values.tobytes())
        else:
            Image.fromarray(values).save(path)
        pixels = read_pixels(path)
        assert pixels.shape == (3, 8, 64)
        assert pixels[1].numpy() == pytest.approx(RAMP, abs=1e-5)

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ((65535 * RAMP).astype(np.int32), "32-bit integers from 0 to 65535 have no known white"),
            ((255 * RAMP).astype(np.float32), r"must lie in \[0, 1\], but got 0 to 255"),
            ((RAMP - 0.5).astype(np.float32), r"must lie in \[0, 1\], but got -0.5 to 0.5"),
            ((RAMP * np.nan).astype(np.float32), r"must lie in \[0, 1\], but got nan to nan"),
        ],
    )
    def test_no_known_range(self, tmp_path, values, problem):
        Image.fromarray(values).save(tmp_path / "x.tif")
        with pytest.raises(OSError, match=rf"the picture .*x\.tif cannot be read: .*{problem}"):
            read_pixels(tmp_path / "x.tif")


class TestTransparency:
    @pytest.mark.parametrize("ending", ["png", "webp", "tif"])
    def test_on_white(self, tmp_path, ending):
        """Half of red at the left, and nothing of the green behind the right half."""
        picture = np.zeros((8, 16, 4), dtype=np.uint8)
        picture[:, :8] = (200, 0, 0, 128)
        picture[:, 8:] = (0, 90, 0, 0)
        path = tmp_path / f"a.{ending}"
        Image.fromarray(picture).save(path, **({"lossless": True} if ending == "webp" else {}))
        with pytest.warns(UserWarning, match=rf"put on white, as in .*a\.{ending}"):
            got = read(path)
        share = 128 / 255
        assert got[0, 0] == pytest.approx([200 * share + 255 * (1 - share)] + 2 * [255 * (1 - share)], abs=1)
        assert got[0, -1] == pytest.approx([255, 255, 255])

    @pytest.mark.parametrize("mode", ["L", "P", "RGB", "1"])
    def test_a_transparent_color(self, tmp_path, mode):
        picture, clear = Image.new(mode, (4, 4), 0), (0, 0, 0) if mode == "RGB" else 0
        picture.save(tmp_path / "a.png", transparency=clear)
        with pytest.warns(UserWarning, match="put on white"):
            assert (read(tmp_path / "a.png") == 255).all()

    def test_opaque(self, tmp_path, colors):
        Image.fromarray(colors).convert("RGBA").save(tmp_path / "a.png")
        assert read(tmp_path / "a.png") == pytest.approx(colors)

    def test_one_warning_for_many(self, tmp_path):
        warn = Once()
        for name in "ab":
            Image.new("LA", (4, 4)).save(tmp_path / f"{name}.png")
        with pytest.warns(UserWarning, match="put on white") as given:
            assert [read_pixels(tmp_path / f"{name}.png", warn).min() for name in "ab"] == [1, 1]
        assert len(given) == 1


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "ending"),
        [("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("L", "bmp"), ("L", "gif"), ("1", "png"), ("1", "tif")],
    )
    def test_modes(self, tmp_path, colors, mode, ending):
        picture = Image.fromarray(colors).convert(mode, dither=Image.Dither.NONE)
        picture.save(tmp_path / f"a.{ending}", **({"quality": 100} if ending == "jpg" else {}))
        if mode == "YCbCr":
            pytest.importorskip("PIL", "13", reason="Pillow 12 cannot read what it writes in this mode")
        assert read(tmp_path / f"a.{ending}") == pytest.approx(np.asarray(picture.convert("RGB"), dtype=float), abs=4)

    def test_palette(self, tmp_path):
        picture = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "L")
        picture = picture.convert("P")
        picture.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
        for ending in ("png", "gif", "bmp"):
            picture.save(tmp_path / f"p.{ending}")
            got = read(tmp_path / f"p.{ending}")
            assert got.argmax(2).tolist() == [[0, 1], [2, 1]], ending
            assert got.max(2) == pytest.approx(250)

    def test_lab(self, tmp_path, colors):
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(Image.fromarray(colors), srgb, lab, outputMode="LAB")
        picture.save(tmp_path / "l.tif")
        assert np.abs(read(tmp_path / "l.tif") - colors).mean() < 3

    @pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
    def test_several_pages(self, tmp_path, colors, ending):
        """The first one; that a page was left out is said."""
        first, path = Image.fromarray(colors), tmp_path / f"s.{ending}"
        first.save(path, save_all=True, append_images=[first.rotate(180)])
        with pytest.warns(UserWarning, match=rf"the first one is read, as of .*s\.{ending} with 2"):
            assert np.abs(read(path) - colors).mean() < 10  # turned by half: 80

    def test_the_preview_in_a_photograph_is_no_page(self, tmp_path, colors):
        first = Image.fromarray(colors)
        first.save(tmp_path / "p.mpo", save_all=True, append_images=[first.rotate(180)], quality=95)
        assert np.abs(read(tmp_path / "p.mpo") - colors).mean() < 8

    def test_long_and_foreign_names(self, tmp_path, colors):
        for name in ("ä 猫 🐱 [1] %d.png", "x" * 251 + ".png"):
            Image.fromarray(colors).save(tmp_path / name)
            assert read(tmp_path / name) == pytest.approx(colors)
