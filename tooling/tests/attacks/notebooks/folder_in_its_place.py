# Hands in a folder with the notebook's name.
# succeeds: disturbs

# %% make
(folder / "plain.ipynb").unlink()
(folder / "plain.ipynb").mkdir()
(folder / "plain.ipynb" / "x.txt").write_text("x")
