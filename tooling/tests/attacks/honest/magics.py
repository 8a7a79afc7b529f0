# Magics, shell commands, help.

# %% first
%config InlineBackend.figure_format = "svg"
%precision 4
%xmode Plain
%env OMP_NUM_THREADS=1
!echo hello from $USER
_lines = !ls
%timeit -n 2 -r 2 sum(range(100))
%time _ = sorted([3, 1, 2])
%who
%pwd
int?
%load_ext autoreload
%autoreload 1

# %% last
%timeit -n 1 -r 1 [k * k for k in range(10)]
%whos int
%lsmagic
