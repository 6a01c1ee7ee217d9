"""Every FITS file at hand, real or odd: what it is read as, or why it is refused."""

from unittest import mock

import numpy as np
import pytest

import galmorph.images.cutout
from galmorph.errors import CutoutError
from galmorph.images.cutout import cutout_files, read_cutout, write_cutout
from galmorph.images.fits_file import plain_image
from galmorph.images.flags import Flag
from galmorph.images.quality import quality
from galmorph.images.radius import measure_r90

pytestmark = pytest.mark.real_data

# path: (bands, shape, survey, arcsec per pixel), or the words that tell why not
FILES = {
    "bass-mzls-ccd-grz/k4m_160319_075112_ooi_zd_ls9.CCD3.fits": ("z", (208, 204), "", 0.2596),
    "bass-mzls-ccd-grz/ksb_170430_055945_ooi_r_ls9.CCD4.fits": ("r", (119, 118), "", 0.4535),
    "bass-mzls-ccd-grz/ksb_180313_081856_ooi_g_ls9.CCD4.fits": ("g", (119, 118), "", 0.4535),
    "catalog-ngc/ngcic.fits": "a table",
    "catalog-nsa-decals/gordon_joint_catalog_no_cuts.fits": "a table",
    "catalog-sdss-atlas/sdss_atlas.fits": "a table",
    "catalog-tractor/sweep-310m005-320p000.fits": "a table",
    "catalog-tractor/targets.fits": "a table",
    "catalog-tractor/tractor-3301m002.fits": "a table",
    "decam-ccd-grz/c4d_141206_043719_ooi_z_a1-S10.fits": ("z", (200, 200), "", 0.2623),
    "decam-ccd-grz/c4d_141223_020302_ood_g_a1-S10.fits": ("g", (200, 200), "", 0.2623),
    "decam-ccd-grz/c4d_141223_020302_ooi_g_a1-S10.fits": ("g", (200, 200), "", 0.2623),
    "decam-ccd-grz/c4d_141224_033245_ooi_r_a1-S10.fits": ("r", (200, 200), "", 0.2623),
    "decam-ccd-saturated/c4d_181214_050844_ood_g_ls9.S9.fits": "does not say the unit",
    "decam-ccd-saturated/c4d_181214_050844_ooi_g_ls9.S9.fits": "does not say the unit",
    "des-host/cutout_DES_i.fits": "does not say the unit",
    "des-host/driver2016_t3data.fits": "shape",
    "gama-9band/t10_5.34_g.fits": "does not say the unit",
    "gama-9band/t10_5.34_r.fits": "does not say the unit",
    "gama-9band/t10_5.34_z.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G266662fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G266662segim.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G267199fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G267199segim.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G267489fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/KiDS_G267489segim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G266662fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G266662segim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G267199fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G267199segim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G267489fitim.fits": "does not say the unit",
    "gama-sdss-kids-r/SDSS_G267489segim.fits": "does not say the unit",
    "hsc-hst-cosmos/Cut_HSC1.fits": "does not name the bands",
    "hsc-hst-cosmos/Cut_HST1.fits": "does not say the unit",
    "hst-abell2744/abell_2744_group_of_galaxies_f105w.fits.gz": ("F105W", (100, 100), "", 0.0600),
    "hst-abell2744/abell_2744_spiral_galaxy_f105w.fits.gz": "has pixels in",
    "jwst-ceers/ceers_f115w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f115w_11349.fits": "does not say the unit",
    "jwst-ceers/ceers_f150w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f150w_11349.fits": "does not say the unit",
    "jwst-ceers/ceers_f200w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f200w_11349.fits": "does not say the unit",
    "jwst-ceers/ceers_f277w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f277w_11349.fits": "does not say the unit",
    "jwst-ceers/ceers_f356w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f356w_11349.fits": "does not say the unit",
    "jwst-ceers/ceers_f444w_10983.fits": "does not say the unit",
    "jwst-ceers/ceers_f444w_11349.fits": "does not say the unit",
    "ls-coadd-damaged/cut_legacysurvey-0394m202-invvar-g.fits.fz": "is truncated or damaged",
    "ls-cube-162/example_b.fits": ("grz", (162, 162), "decals", 0.2620),
    "ls-cubes/example_a.fits": ("grz", (424, 424), "decals", 0.1000),
    "ls-cubes/example_b.fits": ("grz", (424, 424), "decals", 0.1014),
    "ls-cubes/example_c.fits": ("grz", (424, 424), "decals", 0.1432),
    "ls-cubes/temp_small.fits": ("grz", (225, 225), "decals", 0.2620),
    "ls-partial-coverage/example_bad_pix.fits": ("grz", (424, 424), "decals", 0.1302),
    "ls-subimage/cutout_59.1067_-30.4848.fits": ("grz", (256, 256), "decals", 0.2620),
    "ls-truncated/example_incomplete.fits": "is truncated or damaged",
    "mosaic-kids-viking/Z.fits": "a survey image",
    "mosaic-kids-viking/g.fits": "a survey image",
    "mosaic-kids-viking/i.fits": "a survey image",
    "mosaic-kids-viking/r.fits": "a survey image",
    "odd-astropy/blank.fits": "shape",
    "odd-astropy/comp.fits": "does not say the unit",
    "odd-astropy/compressed_float_bzero.fits": "shape",
    "odd-astropy/compressed_with_nan.fits": "does not say the unit",
    "odd-astropy/dss.14.29.56-62.41.05.fits.gz": "does not say the unit",
    "odd-astropy/header_newlines.fits": "shape",
    "odd-astropy/m13_gzip.fits": "does not say the unit",
    "odd-astropy/m13_rice.fits": "does not say the unit",
    "odd-astropy/o4sp040b0_raw.fits": "several images",
    "odd-astropy/random_groups.fits": "random groups",
    "odd-astropy/scale.fits": ("H", (21, 20), "", 5.0000),
    "odd-astropy/variable_length_table.fits": "a table",
    "odd-ccdproc/a8280271.fits": "does not say the unit",
    "odd-ccdproc/science-mef.fits": "several images",
    "odd-empty/emptyfile.fits": "every HDU is empty",
    "odd-empty/first_image.fits": "has pixels in",
    "odd-empty/ukidss_image.fits": "does not say the unit",
    "odd-fitsio/test_rice_dither2_seed42.fits.fz": "does not say the unit",
    "odd-fz-mask/ksb_staticmask_ood_v1.fits.fz": "a dqmask image",
    "odd-nongalaxy/HorseHead.fits": "does not say the unit",
    "odd-sep/image.fits": "does not say the unit",
    "sdss-dr7-r/ic3478rss_256.fits": "has pixels in",
    "sdss-dr7-r/ic3478rss_256_mask.fits": "holds a mask image",
    "sdss-frame-small/fpM-001000-r1-0100.fit": "a table",
    "sdss-frame-small/frame-r-001000-1-0100.fits.bz2": ("r", (100, 100), "sdss", 0.3959),
    "sdss-frame-small/photoObj-001000-1-0100.fits": "a table",
    "sdss-gri-reprojected/reprojected_sdss_g.fits.bz2": ("g", (496, 682), "sdss", 1.1877),
    "sdss-gri-reprojected/reprojected_sdss_i.fits.bz2": ("g", (496, 682), "sdss", 1.1877),
    "sdss-gri-reprojected/reprojected_sdss_r.fits.bz2": ("g", (496, 682), "sdss", 1.1877),
    "targets-upload/example-cat.fits": "a table",
    "wise-2mass-galex/2MASS_H.fits": ("h", (249, 249), "", 1.0000),
    "wise-2mass-galex/GALEX_NUV.fits": "does not say the unit",
    "wise-2mass-galex/WISE_W1.fits": ("1", (261, 261), "", 1.3750),
}
READ = [path for path, expected in FILES.items() if not isinstance(expected, str)]


def test_the_table_lists_every_file(shared):
    folder = shared / "fits"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".fit" in path.name}
    assert found == set(FILES)


@pytest.mark.parametrize("path", FILES)
def test_what_a_file_is_read_as(shared, path):
    expected = FILES[path]
    if isinstance(expected, str):
        with pytest.raises(CutoutError, match=expected) as error:
            read_cutout(shared / "fits" / path)
        assert str(error.value).startswith(str(shared / "fits" / path))
        return
    cutout = read_cutout(shared / "fits" / path)
    bands, shape, survey, pixscale = expected
    assert "".join(cutout.bands) == bands
    assert cutout.flux.shape == (len(cutout.bands), *shape)
    assert cutout.flux.dtype == np.float32
    assert cutout.survey == survey
    assert cutout.pixscale == pytest.approx(pixscale, abs=1e-4)
    scales = cutout.wcs.proj_plane_pixel_scales()
    assert cutout.pixscale == pytest.approx(
        np.sqrt(scales[0].to_value("arcsec") * scales[1].to_value("arcsec")), rel=1e-3
    )


def test_both_ways_of_reading_agree(shared):
    plain = [path for path in FILES if plain_image(shared / "fits" / path, 3000)]
    assert len(plain) == 24
    for path in plain:
        one = outcome(shared / "fits" / path)
        with mock.patch.object(galmorph.images.cutout, "plain_image", return_value=None):
            other = outcome(shared / "fits" / path)
        if isinstance(one, str):
            assert one == other
            continue
        for name in ("target_id", "survey", "bands", "flux_pixscale", "pixscale", "header_text", "mask", "header"):
            assert getattr(one, name) == getattr(other, name), path
        np.testing.assert_array_equal(one.flux, other.flux)
        assert np.array_equal(one.radius_arcsec, other.radius_arcsec, equal_nan=True)


def outcome(path):
    """A cutout, or the words of the refusal."""
    try:
        return read_cutout(path)
    except CutoutError as error:
        return str(error)


@pytest.mark.parametrize("path", READ)
def test_what_is_read_is_written_and_read_again(shared, path, tmp_path):
    cutout = read_cutout(shared / "fits" / path)
    write_cutout(cutout, tmp_path / "x.fits")
    again = read_cutout(tmp_path / "x.fits")
    np.testing.assert_array_equal(again.flux, cutout.flux)
    for name in ("target_id", "survey", "bands", "flux_pixscale", "pixscale"):
        assert getattr(again, name) == getattr(cutout, name)
    corners = [(0.0, 0.0), (30.0, 12.0)]
    np.testing.assert_array_equal(again.wcs.all_pix2world(corners, 0), cutout.wcs.all_pix2world(corners, 0))


@pytest.mark.parametrize(
    ("path", "r90", "flags"),
    [
        ("ls-cubes/example_a.fits", 9.2, Flag.LARGER_THAN_CUTOUT),
        ("ls-cubes/example_b.fits", 4.2, Flag(0)),
        ("ls-cubes/example_c.fits", 15.9, Flag.LARGER_THAN_CUTOUT),
        ("ls-cubes/temp_small.fits", 9.6, Flag.LARGER_THAN_CUTOUT),
        ("ls-cube-162/example_b.fits", 4.1, Flag(0)),
        ("ls-subimage/cutout_59.1067_-30.4848.fits", 3.5, Flag(0)),
        ("ls-partial-coverage/example_bad_pix.fits", np.nan, Flag.PARTIAL),
        ("wise-2mass-galex/2MASS_H.fits", None, Flag.MISSING_BAND | Flag.BLANK),
        ("decam-ccd-grz/c4d_141223_020302_ood_g_a1-S10.fits", None, Flag.MISSING_BAND | Flag.BLANK),
    ],
)
def test_radius_and_flags_of_real_cutouts(shared, path, r90, flags):
    cutout = read_cutout(shared / "fits" / path)
    found = measure_r90(cutout)
    if r90 is not None:
        assert found == pytest.approx(r90, rel=0.03, nan_ok=True)
    width = 8.48 * found if r90 else np.inf
    assert quality(cutout, "grz", width, found, seeing_arcsec=1.2) == flags


def test_the_same_galaxy_at_two_pixel_scales(shared):
    found = [
        measure_r90(read_cutout(shared / "fits" / path))
        for path in ("ls-cubes/example_a.fits", "ls-cubes/temp_small.fits")
    ]
    assert found[0] == pytest.approx(found[1], rel=0.06)


def test_bands_named_by_the_files(shared):
    cutout = read_cutout(shared / "fits/sdss-gri-reprojected/reprojected_sdss_{band}.fits.bz2")
    assert (cutout.bands, cutout.survey, cutout.target_id) == (("g", "r", "i"), "sdss", "reprojected_sdss")
    assert cutout.flux.shape == (3, 496, 682)


def test_counts_become_nanomaggies_without_sky(shared):
    cutout = read_cutout(shared / "fits/decam-ccd-grz/c4d_141223_020302_ooi_g_a1-S10.fits")
    # 126 counts of sky, zero point 29.787: 0.15 nanomaggies a pixel with it.
    assert abs(np.median(cutout.flux)) < 1e-3
    assert cutout.flux.max() == pytest.approx((713.507 - 125.7) * 10 ** (0.4 * (22.5 - 29.787)), rel=1e-2)


def test_hdu_chooses_among_images(shared):
    cutout = read_cutout(shared / "fits/ls-subimage/cutout_59.1067_-30.4848.fits", hdu=3)
    assert cutout.bands == ("r",)


def test_folders(shared):
    assert dict(cutout_files(shared / "fits" / "sdss-gri-reprojected")).keys() == {"reprojected_sdss"}
    found = dict(cutout_files(shared / "fits"))
    assert found["gama-9band/t10_5.34"] == str(shared / "fits/gama-9band/t10_5.34_{band}.fits")
    assert found["ls-cubes/example_a"] == str(shared / "fits/ls-cubes/example_a.fits")
