# Makes the NumPy files of this folder. Value k of the images, in C order, is k modulo 251.
#
#   pip install numpy==2.4.6 && python make.py
import numpy as np

images = (np.arange(3 * 4 * 5 * 3) % 251).astype(np.uint8).reshape(3, 4, 5, 3)
np.save("images.npy", images)
np.save("grey.npy", images[..., 0].copy())
np.save("fortran.npy", np.asfortranarray(images))
np.save("float.npy", images.astype(np.float32))
for dtype in ("u1", "<i8", ">i4", "<u2"):
    np.save("labels_" + dtype.strip("<>") + ".npy", np.array([7, 0, 9], dtype=dtype))
np.save("negative.npy", np.array([7, -1, 9]))
np.lib.format.write_array(open("version2.npy", "wb"), images, version=(2, 0))

# Frames [N][T][C][H][W]: value k, in C order, is k modulo 5, over 4 as a real number.
frames = (np.arange(3 * 2 * 1 * 2 * 2) % 5).reshape(3, 2, 1, 2, 2)
np.save("frames_u1.npy", frames.astype(np.uint8))
np.save("frames_f4.npy", (frames / 4).astype(np.float32))
np.save("frames_bool.npy", frames > 1)
np.save("frames_outside.npy", frames.astype(np.float32))
