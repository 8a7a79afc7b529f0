# Plots what it computes, in a style of its own.
# lab: deep

# %% first
%matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.figsize"] = (3, 2)
plt.rcParams.update({"font.size": 8})
plt.style.use("ggplot")
_x = np.linspace(0, 1, 20)
plt.plot(_x, _x**2, label="square")
plt.legend()
plt.title("a curve")
plt.show()
_figure, _axes = plt.subplots(1, 2)
_axes[0].hist(np.random.randn(50))
_axes[1].imshow(np.eye(4))
