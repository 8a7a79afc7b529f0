# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 1.3.5: Profiling workshop
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: traces are recorded and read on the CPU; Nsight Systems needs a GPU |
# | Points | 37 automatic, 9 read by a person |
# | Builds on | 1.2.5 (profiling Python code) |
#
# A training loop is slower than it has to be, for six reasons. You will not guess them: you record a trace, write the code that reads it, name each reason with its number, take it out, and check that the model still learns exactly the same.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the system** (objective 1.3.4): tell an operator's own time from its total, and time in operators from time between them.
# 2. **Learn the skill**: record a trace that can be trusted, and write the code that turns it into findings.
# 3. **Take a pattern along**: evidence, hypothesis, one change, the same result, measured again.
# 4. **Meet the production tools**: `torch.profiler` here, Nsight Systems with NVTX ranges on a GPU; you read the export of both.
# 5. **Weigh a trade-off**: what a fix can gain at all (Amdahl) against what it costs to write, and what looking costs.

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | code that you timed and profiled line by line (1.2.5), kernels whose accesses you counted (1.3.1) |
# | What works | you can say how long a function takes |
# | The gap | a training step is a thousand small calls, in C++, some of them on another machine: a stopwatch around it says that it is slow, not why |
# | This lab | reads the record of all these calls, and asks it questions |
#
# ```
# 1.2.5 profiling Python ──┐                      ┌─→ 2.1.5 PyTorch profiler, on models that you built
# 1.3.1 counts, bandwidth ─┴─→ 1.3.5 reading ─────┼─→ 2.1.4 mixed precision: is the gain where you expect it?
#                                   traces        └─→ 3.x   every training run that has to be paid for
# ```

# %% [markdown]
# **Check yourself 1.** `f` takes 10 ms, 8 ms of which it spends in `g`. What are the total and the own time of `f`?
#
# <details><summary>Answer</summary>
#
# Total 10 ms, own 2 ms. Making `f`'s own lines twice as fast gains 1 ms; the total says where to look next, the own time what to change here.
# </details>
#
# **Check yourself 2.** Why does `loss.item()` make a GPU wait, and why is it cheap on a CPU?
#
# <details><summary>Answer</summary>
#
# PyTorch queues kernels and goes on. `item()` needs a number, so Python waits until the queue is empty, and meanwhile queues nothing: the GPU then idles while Python catches up. On a CPU the value is there when the operator returns. The *count* of such calls is the same on both, so you can find them here.
# </details>

# %% [markdown]
# **New to PyTorch?** (Module 2.1 is about it.) Six things are enough here:
#
# - a *tensor* is an array that can remember how it was computed; operators have names such as `aten::mul`;
# - `nn.Linear(n, m)` is `x @ weight.T + bias` on the last axis, whatever axes come before;
# - `loss.backward()` fills `.grad` of every parameter that took part and has `requires_grad`; `module.requires_grad_(False)` switches it off for all of a module's;
# - `optimizer.step()` moves the parameters that the optimiser was given, `zero_grad()` forgets their gradients;
# - a *buffer* is a tensor that belongs to a module and moves with it, without being trained; `state_dict()` names parameters and persistent buffers;
# - `with record_function("name"):` marks a stretch of time in a trace.

# %% nbgrader={"grade": false, "grade_id": "profiling-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import os

os.environ["KINETO_LOG_LEVEL"] = "6"  # else the profiler's library writes to stderr whenever it starts

# %% nbgrader={"grade": false, "grade_id": "profiling-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import json
import math
import random
import sqlite3
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from labkit import checking, hardware, insight, timing
from matplotlib import pyplot as plt
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

# %% nbgrader={"grade": false, "grade_id": "profiling-scratch", "locked": true, "schema_version": 3, "solution": false, "task": false}
torch.set_num_threads(1)


def scratch(name):
    """The path of a file in a folder of this process's own, for traces."""
    folder = Path(tempfile.gettempdir()) / f"traces-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder / name


# %% [markdown]
# **Ready?** The next cell profiles one product of matrices. It should print a table with `aten::mm` in it. (The first profile of a process takes a second: the library behind it starts.)

# %%
with profile(activities=[ProfilerActivity.CPU]) as first:
    torch.ones(64, 64) @ torch.ones(64, 64)
print(first.key_averages().table(sort_by="self_cpu_time_total", row_limit=4, max_name_column_width=30))

# %% [markdown]
# ## Why it matters
#
# A team trains a recommender on eight GPUs. Utilisation: 35 %. Somebody suspects the interconnect, somebody the optimiser; a week goes into faster kernels, which gain 4 %. Then someone records thirty steps. Between two steps stands a gap in which no kernel runs: the loss is printed at every step, and the loader normalises each sample in Python. Two lines are changed, and the run takes half the time. At 8 GPUs, 3 dollars an hour each and 400 hours, the gap had cost 4,800 dollars *per run*.
#
# (The story is made up of several; its arithmetic is yours to check.) What repeats in all of them: the time was not where it was expected, the trace had it in plain sight, and nobody had looked because the loop worked.

# %% [markdown]
# ## At the kitchen table
#
# A restaurant's kitchen is slow, and you may watch it for one evening with a notebook.
#
# - **The trace** is your notebook: who did what from when to when.
# - **Total and own time**: the cook is "making the stew" for an hour, of which he waits fifty minutes for onions to be cut. Buying him a faster stove helps with ten.
# - **Tiny calls**: someone carries 64 plates one by one. No single walk is slow.
# - **A synchronisation**: after each dish the cook walks to the guest and asks how it was, before he starts the next.
# - **A gap**: nobody moves. It is in no one's list of work, and you see it only on the clock.
# - **Amdahl**: if cutting onions is a tenth of the evening, the best knife in the world gains a tenth.
#
# *Where it breaks:* cooks do not slow down by being watched as much as programs do. A profiler writes down each of a hundred thousand calls a second, and the small calls are the ones that it makes look large. Believe its counts; check its times with a clock.

# %% [markdown]
# ## Foundations: what a trace is
#
# A trace is a list of intervals, each with a name, a thread, a start and a duration. On one thread they are properly *nested*: an interval lies within another, or they do not touch.
#
# ```
#  step       |───────────────────────────── 100 ─────────────────────────────|
#  data         |────── 30 ──────|
#  forward                         |───────── 40 ─────────|
#  operators    |mean||sub||div|     |─ linear 25 ─|  |sum|    (no operator) |copy|
#                                     |─ addmm 20 ─|
# ```
#
# - **total** time of a name: how long at least one of its calls is open. Here `linear`: 25.
# - **own** time (the profiler's *self* time): total minus the time of the intervals directly within. `linear`: 25 − 20 = 5. The own times of all intervals add up to the time of the outermost ones: own times are a *partition*, totals are not.
# - **share**: of what a fix can touch. Speeding up a share $p$ by a factor $s$ makes the whole faster by
#
# $$ S = \frac{1}{(1-p) + p/s} \;\le\; \frac{1}{1-p} \qquad\text{(Amdahl, 1967)} $$
#
# In numbers: `data` is $p = 0.3$. Ten times as fast it gives $1 / (0.7 + 0.03) = 1.37$; infinitely fast $1 / 0.7 = 1.43$. The next cell draws the law: each curve has a ceiling, and reaches most of it soon.

# %%
factors = [2.0**k for k in range(8)]
curves = {f"p = {p}": [1 / (1 - p + p / s) for s in factors] for p in (0.3, 0.6, 0.9)}
axes = insight.lines(factors, curves, xlabel="factor s of the part", ylabel="speed-up of the whole", logx=True)


# %% [markdown]
# ### The tools of this lab
#
# `profile` can write its trace as Chrome's JSON. `read_events` turns that file into `Event`s, with times in whole nanoseconds, so that sums are exact. An operator comes with the types and shapes of its inputs.

# %% nbgrader={"grade": false, "grade_id": "profiling-events", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Event(NamedTuple):
    """One interval of a trace; times in ns since the trace's first event."""

    name: str
    kind: str  # "cpu_op" for an operator, "user_annotation" for what record_function opened
    start: int
    duration: int
    thread: int = 0
    types: tuple = ()  # an operator's inputs: "float", "double", "long int", ...
    shapes: tuple = ()  # and their shapes; () for what is no tensor, or has no axis

    @property
    def end(self):
        return self.start + self.duration


# %% nbgrader={"grade": false, "grade_id": "profiling-read", "locked": true, "schema_version": 3, "solution": false, "task": false}
def frozen(value):
    """Lists as tuples, all the way down: such shapes can be counted."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


# %% nbgrader={"grade": false, "grade_id": "profiling-read-events", "locked": true, "schema_version": 3, "solution": false, "task": false}
def read_events(path):
    """The operators and annotations of a Chrome trace, by start, an outer event before those within it."""
    raw = [e for e in json.loads(Path(path).read_text())["traceEvents"] if e.get("ph") == "X"]
    raw = [e for e in raw if e["cat"] in ("cpu_op", "user_annotation")]
    zero = min((e["ts"] for e in raw), default=0)  # microseconds
    events = []
    for e in raw:
        start, end = (round(1000 * (t - zero)) for t in (e["ts"], e["ts"] + e["dur"]))
        args = e.get("args", {})
        types, shapes = frozen(args.get("Input type", [])), frozen(args.get("Input Dims", []))
        events.append(Event(e["name"], e["cat"], start, end - start, e["tid"], types, shapes))
    return sorted(events, key=lambda e: (e.start, -e.duration))


# %% [markdown]
# The patient: a small classifier of sensor readings. Its encoder is *frozen* (somebody else trained it), its head learns. Read it once, and write down what you believe costs most. You will see.

# %% nbgrader={"grade": false, "grade_id": "profiling-slow-prepare", "locked": true, "schema_version": 3, "solution": false, "task": false}
def slow_prepare(raw, mean, std):
    """Normalise and clip readings: (samples, features) float64 in, float32 out."""
    rows = []
    for sample in raw:
        rows.append(((sample - mean) / std).clamp(-3.0, 3.0))
    return torch.stack(rows).float()


# %% nbgrader={"grade": false, "grade_id": "profiling-slow-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Slow(nn.Module):
    """A frozen encoder, a wave that marks positions, a head that is trained. (rows, features) -> (rows, classes)."""

    def __init__(self, features, hidden, classes):
        super().__init__()
        self.encoder, self.head = nn.Linear(features, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        outputs = []
        for row in x:
            wave = torch.arange(self.head.in_features, dtype=torch.float64).mul(0.1).sin()
            hidden = (torch.relu(self.encoder(row)) * wave).float()
            outputs.append(self.head(hidden))
        return torch.stack(outputs).t().contiguous().t().contiguous()


# %% nbgrader={"grade": false, "grade_id": "profiling-learn", "locked": true, "schema_version": 3, "solution": false, "task": false}
def learn(model, optimizer, x, labels):
    """One step on one batch. The loss before it, as a tensor."""
    optimizer.zero_grad()
    with record_function("forward"):
        loss = nn.functional.cross_entropy(model(x), labels)
    with record_function("backward"):
        loss.backward()
    with record_function("optimizer"):
        optimizer.step()
    return loss


# %% nbgrader={"grade": false, "grade_id": "profiling-slow-train", "locked": true, "schema_version": 3, "solution": false, "task": false}
def slow_train(model, batches, lr):
    """Train the head on each batch once, by plain SGD; the encoder stays as it is. The losses, one for each batch."""
    frozen_group = {"params": model.encoder.parameters(), "lr": 0.0}
    optimizer = torch.optim.SGD([frozen_group, {"params": model.head.parameters()}], lr=lr)
    losses = []
    for x, labels in batches:
        losses.append(learn(model, optimizer, x, labels).item())
    return losses


# %%
def one_step(prepare, model, train, samples=32, features=12):
    """A function without arguments that does one step of training on fixed data."""
    generator = torch.Generator().manual_seed(135)
    raw = torch.randn(samples, features, generator=generator, dtype=torch.float64) * 20 + 50
    mean, std, labels = raw.mean(0), raw.std(0), torch.arange(samples) % 3

    def step():
        with record_function("data"):
            x = prepare(raw, mean, std)
        train(model, [(x, labels)], 0.1)

    return step


# %%
slow_step = one_step(slow_prepare, Slow(12, 32, 3), slow_train)
print(timing.measure(slow_step, repeats=10))


# %% [markdown]
# ## Part 1: A trace that can be trusted
#
# ### Exercise 1: record
#
# The first step of a loop is unlike all others: memory is allocated, code paths are chosen, caches are cold. Record it and you optimise the start of the program. And a trace without marks is a heap of operators: you put each step between two marks, so that later code can ask *per step*.

# %% nbgrader={"grade": false, "grade_id": "profiling-record", "locked": false, "schema_version": 3, "solution": true, "task": false}
def record(step, steps: int, path) -> None:
    """Record a trace of `steps` calls of `step`, after one that is not recorded, and write it to `path`.

    Args:
        step: a function without arguments.
        steps: how many calls to record, at least 1.
        path: where the Chrome trace (JSON) goes.

    Raises:
        ValueError: steps is less than 1; nothing has been called.

    TODO: Profile the CPU with the shapes of inputs, each recorded call in a `record_function("step")` of its own.

    APPROACH:
        1. Refuse a number of steps that makes no sense, because an empty trace would be read without complaint.
        2. Call step once outside the profiler, because the first call pays for what happens once.
        3. Open the profiler around the marked calls and export after it has closed, because only then it is complete.

    EXAMPLE:
        >>> record(lambda: torch.ones(2).sum(), 3, scratch("example.json"))
        >>> sum(event.name == "step" for event in read_events(scratch("example.json")))
        3

    HINTS:
        1. The cell after "Ready?" shows the profiler as a context manager.
        2. Its argument record_shapes=True writes down types and shapes.
        3. The method that writes the file is called export_chrome_trace, and takes a string.
    """
    ### BEGIN SOLUTION
    if steps < 1:
        raise ValueError(f"at least one step is recorded, not {steps}")
    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    profiler.export_chrome_trace(str(path))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-profiling-record", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: how often the step is called, which calls are in the trace, that each has a mark around it, and the shapes.
# A wrong answer fails: without warm-up the first call is in the trace; with one mark for all there is one "step".
# A pass: nothing is printed but the seed.
def test_unit_record() -> None:
    def check(steps, rows):
        calls, path = [], scratch("recorded.json")

        def step():
            calls.append(len(calls) + 1)
            torch.ones(rows, len(calls)).mm(torch.ones(len(calls), 3))

        record(step, steps, path)
        events = read_events(path)
        checking.equal(len(calls), steps + 1, what=f"calls for {steps} recorded steps", hint="one more, before")
        marks = [event for event in events if event.name == "step"]
        checking.equal(len(marks), steps, what="marks called 'step' in the trace", hint="one for each recorded call")
        products = [event for event in events if event.name == "aten::mm"]
        want = [((rows, k), (k, 3)) for k in range(2, steps + 2)]
        checking.equal([p.shapes for p in products], want, what="shapes of the products in the trace",
                       hint="call k multiplies k columns: is call 1 in there? were shapes recorded at all?")
        inside = all(m.start <= p.start and p.end <= m.end for m, p in zip(marks, products, strict=True))
        assert inside, "an operator of a step lies outside its mark: what does record_function stand around?"

    check(3, 2)
    checking.raises(ValueError, record, lambda: 1 / 0, 0, scratch("none.json"), what="record of 0 steps")
    ### BEGIN HIDDEN TESTS
    # check: another number of steps, one among them
    # hint: do the warm-up and the marks hold for any number of steps?
    rng = random.Random(checking.secret_seed())
    for steps in (1, rng.randrange(4, 9)):
        check(steps, rng.randrange(4, 9))
    # check: a negative number of steps
    # hint: the docstring says what is refused, and when
    checking.raises(ValueError, record, lambda: 1 / 0, -rng.randrange(1, 9), scratch("none.json"), what="record")
    ### END HIDDEN TESTS


test_unit_record()


# %% [markdown]
# ### What just happened?
#
# You have a recorder whose traces begin when the loop has warmed up. The next cells record three steps of the patient. Look at the numbers: how many operators does one step of so small a model run?

# %%
def slow_trace():
    """Three recorded steps of the patient."""
    record(slow_step, 3, scratch("slow.json"))
    return read_events(scratch("slow.json"))


# %%
slow_events = insight.run(slow_trace, needs="Exercise 1 (record)")
if slow_events:
    print(f"{len(slow_events)} events, {len(slow_events) / 3:.0f} for each step")
    print(*slow_events[:6], sep="\n")


# %% [markdown]
# ## Part 2: Whose time is it?
#
# ### Exercise 2: own and total
#
# A list of intervals holds no tree, but proper nesting means that it can be rebuilt in one pass with a stack: whoever is open when an event starts is its parent.

# %% nbgrader={"grade": false, "grade_id": "profiling-row", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Row(NamedTuple):
    """One line of a profile: the calls of a name, and ns."""

    calls: int
    total: int
    own: int


# %% nbgrader={"grade": false, "grade_id": "profiling-summarize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def summarize(events) -> dict[str, Row]:
    """Calls, total and own time of each name in a trace.

    Args:
        events: a list of Event, in any order; on each thread properly nested, none of duration 0, and no two with the
            same start and end.

    Returns:
        A Row for each name. `total` is the time during which at least one call of the name is open, threads added up:
        a call within a call of the same name on the same thread adds nothing to it. `own` is the time of its calls
        minus that of the events directly within them. An empty list gives an empty dict.

    TODO: Rebuild the nesting of each thread and charge each event's time to itself and against its parent.

    APPROACH:
        1. Go through the events by start, the longer first, because a parent then always comes before its children.
        2. Keep a stack of open events for each thread, because threads know nothing of each other.
        3. Take an event's duration off its parent's own time only, because the grandparent has paid already.

    EXAMPLE:
        >>> events = [Event("linear", "cpu_op", 0, 25), Event("addmm", "cpu_op", 3, 20)]
        >>> summarize(events)["linear"]
        Row(calls=1, total=25, own=5)

    HINTS:
        1. An event on top of the stack that has ended when the next one starts is nobody's parent: pop it.
        2. After popping, the top of the stack is the parent.
        3. For the total, look whether any event on the stack has the same name.
    """
    ### BEGIN SOLUTION
    calls, total, own, stacks = Counter(), Counter(), Counter(), defaultdict(list)
    for event in sorted(events, key=lambda e: (e.start, -e.duration)):
        stack = stacks[event.thread]
        while stack and stack[-1].end <= event.start:
            stack.pop()
        calls[event.name] += 1
        own[event.name] += event.duration
        if stack:
            own[stack[-1].name] -= event.duration
        if all(outer.name != event.name for outer in stack):
            total[event.name] += event.duration
        stack.append(event)
    return {name: Row(calls[name], total[name], own[name]) for name in calls}
    ### END SOLUTION


# %% [markdown]
# The tests grow random trees of events, of which they know who spends what.

# %% nbgrader={"grade": false, "grade_id": "profiling-grow", "locked": true, "schema_version": 3, "solution": false, "task": false}
def grow(rng, start, duration, depth, thread=0):
    """A random tree of nested events: a list of (event, its own time)."""
    root = Event(f"op{rng.randrange(4)}", "cpu_op", start, duration, thread)
    grown, own, edge = [], duration, start + rng.randrange(2)
    while depth:
        length = rng.randrange(5, max(6, duration // 2))
        if edge + length >= root.end:
            break
        grown += grow(rng, edge, length, depth - 1, thread)
        own -= length
        edge += length + rng.randrange(3)
    return [(root, own), *grown]


# %% nbgrader={"grade": false, "grade_id": "profiling-made-up", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mark(name, start, duration, thread=0):
    """A made-up annotation."""
    return Event(name, "user_annotation", start, duration, thread)


def op(name, start, duration, thread=0):
    """A made-up operator."""
    return Event(name, "cpu_op", start, duration, thread)


# %% nbgrader={"grade": true, "grade_id": "test-profiling-summarize", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: calls, total and own of every name, on trees small and large, and the profiler's own table as a second opinion.
# A wrong answer fails: own times that do not add up to the outermost; children charged to grandparents.
# A pass: nothing is printed but the seed.
def test_unit_summarize() -> None:
    got = summarize([op("a", 0, 100), op("b", 10, 40), op("c", 20, 10), op("b", 60, 30), op("a", 100, 5)])
    checking.equal(got, {"a": Row(2, 105, 35), "b": Row(2, 70, 60), "c": Row(1, 10, 10)}, what="three levels",
                   hint="the time of c is within b, and was taken off a with b")
    got = summarize([op("a", 0, 10), op("a", 2, 6), op("b", 0, 10, thread=7)])
    checking.equal(got, {"a": Row(2, 10, 10), "b": Row(1, 10, 10)}, what="a within a, and another thread")
    checking.equal(summarize([]), {}, what="the summary of nothing")
    ### BEGIN HIDDEN TESTS
    # check: random trees on several threads
    # hint: draw a small tree, shuffle its events, and follow your stack by hand
    rng = random.Random(checking.secret_seed())
    for threads in (1, 1, 3):
        grown = [pair for t in range(threads) for pair in grow(rng, rng.randrange(50), 700, 4, t)]
        rng.shuffle(grown)
        want, names = {}, {event.name for event, _ in grown}
        for name in names:
            open_at = np.zeros((threads, 800), bool)
            for event, _ in grown:
                if event.name == name:
                    open_at[event.thread, event.start : event.end] = True
            mine = [own for event, own in grown if event.name == name]
            want[name] = Row(len(mine), int(open_at.sum()), sum(mine))
        checking.equal(summarize([event for event, _ in grown]), want, what="a random tree")
    ### END HIDDEN TESTS


test_unit_summarize()


# %% [markdown]
# ### What just happened?
#
# `summarize` is what `key_averages()` does. The next cell asks it about the patient: the ten names with the largest own time. Names without `aten::` are your marks; their own time is time in which Python worked between operators.

# %%
def top(events, count=10):
    """The names with the largest own time: calls for each step, own and total in ms."""
    steps = sum(event.name == "step" for event in events)
    for name, row in sorted(summarize(events).items(), key=lambda item: -item[1].own)[:count]:
        print(f"{name[:38]:38} {row.calls / steps:7.1f} calls {row.own / 1e6:8.2f} own {row.total / 1e6:8.2f} total")


# %%
if slow_events:
    insight.run(lambda: top(slow_events), needs="Exercise 2 (summarize)")


# %% [markdown]
# ### Systems insight 1 of 3: what looking costs
#
# **Checkpoint:** you can record and summarise. **Predict:** by which factor is a step slower while it is being recorded: 1.1, 2 or 10? Whose time is inflated most, a large product's or that of many tiny calls?

# %%
def cost_of_looking(size, calls):
    """Seconds of `calls` products of `size` x `size`, by a clock, and the same in a trace made by your recorder."""
    matrix = torch.ones(size, size)

    def step():
        for _ in range(calls):
            matrix.mm(matrix)

    record(step, 3, scratch("looking.json"))
    traced = summarize(read_events(scratch("looking.json")))["step"].total / 3 / 1e9
    clock = timing.measure(step, repeats=5, flush=False)
    return clock.median, traced


# %%
looked = insight.run(lambda: {"tiny": cost_of_looking(4, 200), "large": cost_of_looking(192, 4)}, needs="Exercises 1 and 2")
for name, (alone, traced) in (looked or {}).items():
    print(f"{name:6} {1e3 * alone:7.3f} ms alone, {1e3 * traced:7.3f} ms while recorded: {traced / alone:.1f} times")


# %% [markdown]
# Each event costs about the same to write down, so tiny calls look slower than they are. In production: choose *where* to look by a trace, and decide *whether it got faster* by a clock, without the profiler. Counts are not inflated: this lab grades counts.

# %% [markdown]
# ## Part 3: Where does a step go?
#
# ### Exercise 3: shares of a step
#
# Operators are one view. The other is the clock on the wall: of all the time within steps, which part is spent in each phase, and in which part does no operator run at all? The last one is in no operator's line of any table.

# %% nbgrader={"grade": false, "grade_id": "profiling-shares", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shares(events) -> dict[str, float]:
    """The share of all step time that each phase takes, and the share in which no operator runs.

    A step is an annotation called "step". A phase is an annotation directly within a step: one that lies in no other
    annotation but the step. Only what is on the step's own thread, and within it, counts. Steps are not nested.

    Args:
        events: a list of Event, in any order.

    Returns:
        The share of each phase by its name, added up over all steps, and under "no operator" the share of time in
        steps in which no operator ("cpu_op") is open. Shares are between 0 and 1; a phase that no step has is left out.

    Raises:
        ValueError: there is no step.

    TODO: For each step, add up its phases and the time covered by its outermost operators.

    APPROACH:
        1. Collect what lies within the step on its thread, by start, the longer first, because outer events then lead.
        2. Go along with the end of the last outermost event, because what starts before it lies within it.
        3. Do so for annotations and operators apart, because an operator lies within a phase and is outermost all the same.

    EXAMPLE:
        >>> events = [Event("step", "user_annotation", 0, 10), Event("data", "user_annotation", 0, 4)]
        >>> shares(events)
        {'data': 0.4, 'no operator': 1.0}

    HINTS:
        1. An event is outermost of its kind if it starts no earlier than the last outermost one ended.
        2. Take the step itself out of the annotations before you look for phases.
        3. "no operator" is what the outermost operators leave of the steps' time.
    """
    ### BEGIN SOLUTION
    steps = [e for e in events if e.kind == "user_annotation" and e.name == "step"]
    if not steps:
        raise ValueError("no annotation called 'step' in this trace: was it made by record()?")
    spent, busy = Counter(), 0
    for step in steps:
        inside = [e for e in events if e.thread == step.thread and step.start <= e.start and e.end <= step.end]
        last = {"user_annotation": step.start, "cpu_op": step.start}
        for event in sorted(inside, key=lambda e: (e.start, -e.duration)):
            if event == step or event.start < last[event.kind]:
                continue
            last[event.kind] = event.end
            if event.kind == "cpu_op":
                busy += event.duration
            else:
                spent[event.name] += event.duration
    whole = sum(step.duration for step in steps)
    return {name: time / whole for name, time in spent.items()} | {"no operator": 1 - busy / whole}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "profiling-check-shares", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_shares(events, want, what, hint=""):
    """One division and one subtraction of numbers below 2: each is good to 2**-53."""
    got = shares(events)
    checking.equal(set(got), set(want), what=f"names in {what}", hint=hint)
    for name, share in want.items():
        checking.close(got[name], share, rtol=0, atol=1e-15, what=f"{name!r} in {what}", hint=hint)


# %% nbgrader={"grade": true, "grade_id": "test-profiling-shares", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: phases of several steps, phases within phases, operators within operators, other threads and other times.
# A wrong answer fails: a nested operator counted twice makes the gap too small, work between steps makes it negative.
# A pass: nothing is printed but the seed.
def test_unit_shares() -> None:
    base = [mark("step", 0, 100), mark("data", 0, 30), mark("forward", 40, 20), op("mm", 5, 10), op("mm", 7, 4), op("mm", 40, 20)]
    check_shares(base, {"data": 0.3, "forward": 0.2, "no operator": 0.7}, "one step", "one operator lies within another")
    second = [mark("step", 200, 100), mark("data", 210, 10), mark("load", 212, 5), op("mm", 150, 20), op("mm", 290, 10), op("mm", 0, 300, 9)]
    check_shares(base + second, {"data": 0.2, "forward": 0.1, "no operator": 0.8}, "two steps", "a phase, a thread, a gap")
    checking.raises(ValueError, shares, [mark("data", 0, 10), op("mm", 0, 10)], what="a trace without a step")
    ### BEGIN HIDDEN TESTS
    # check: many random steps in random order
    # hint: mark the covered part of each step on paper, nanosecond by nanosecond
    rng = random.Random(checking.secret_seed())
    events, want, covered, whole = [], Counter(), 0, 0
    for k in range(rng.randrange(3, 7)):
        start, length, edge = 2000 * k, rng.randrange(800, 1500), 2000 * k
        events.append(mark("step", start, length, k % 2))
        for name in rng.choices(["data", "forward", "backward", "hooks"], k=rng.randrange(2, 5)):
            size = rng.randrange(50, 150)
            events += [mark(name, edge, size, k % 2), mark("inner", edge + 1, 9, k % 2), op("mm", edge + 20, 25, k % 2)]
            events += [op("mm", edge + 22, 9, k % 2), op("mm", start + length + 50, 60, k % 2), op("mm", edge, 90, 3)]
            # In every other step a phase starts where the last one ended.
            want[name], covered, edge = want[name] + size, covered + 25, edge + size + k % 2 * 10
        whole += length
    rng.shuffle(events)
    want = {name: time / whole for name, time in want.items()}
    check_shares(events, want | {"no operator": 1 - covered / whole}, "random steps")
    ### END HIDDEN TESTS


test_unit_shares()

# %% [markdown]
# ### What just happened?
#
# Now the patient's step on the wall clock. Where did you expect the time to be?

# %%
slow_shares = insight.run(lambda: shares(slow_events), needs="Exercises 1 and 3") if slow_events else None
if slow_shares:
    insight.bars(slow_shares, ylabel="share of a step", title="The patient, by phase")


# %% [markdown]
# ## Part 4: Findings
#
# ### Exercise 4: diagnose
#
# A finding is a name with a number behind it. Here are six bottlenecks that everybody plants sooner or later, and what betrays each in a trace. *Outermost* operators are those within no other operator; a phase's operators are those that lie within an annotation of that name, in a step.
#
# | name | evidence, counted for each step | a finding when |
# |---|---|---|
# | `"sync"` | `aten::item` and `aten::is_nonzero` among the outermost operators of a step: Python waits for a value | above 0 |
# | `"preprocessing"` | outermost operators in `data`: work sample by sample | above 16 |
# | `"rows"` | calls in `forward` of the most frequent outermost operator, same name and same shapes | above 8 |
# | `"float64"` | outermost operators in `forward` with an input of type `"double"` that has at least one axis | above 0 |
# | `"copies"` | `aten::clone` in `forward`, outermost or not | above 0 |
# | `"constant"` | `aten::arange` among the outermost operators in `forward`: it depends on no data | above 0 |
#
# *Why "at least one axis":* in `x * 0.5` the profiler lists the Python number as a `"double"` of shape `()`. It costs nothing. *Why "outermost":* operators call operators. `row.std()` calls `aten::item` for reasons of its own, and `aten::arange` calls itself.

# %% nbgrader={"grade": false, "grade_id": "profiling-operators", "locked": true, "schema_version": 3, "solution": false, "task": false}
def within(event, outer):
    """Whether an event lies within another one."""
    return event.thread == outer.thread and outer.start <= event.start and event.end <= outer.end


# %% nbgrader={"grade": false, "grade_id": "profiling-diagnose", "locked": false, "schema_version": 3, "solution": true, "task": false}
def diagnose(events) -> dict[str, float]:
    """The bottlenecks that a trace gives evidence of, by the table above.

    Args:
        events: the events of a trace of `record`, with the phases "data" and "forward" in its steps (either may be
            missing), in any order.

    Returns:
        For each bottleneck that is found, its evidence: a number for each step, as a float. {} if there is none.

    Raises:
        ValueError: there is no step.

    TODO: Count the evidence for each of the six names, and keep those above their limit.

    APPROACH:
        1. Find the steps, and the operators within them, because what happens elsewhere is no part of the loop.
        2. Write a helper for "the outermost operators of a phase", because five of the six need it.
        3. Divide by the number of steps before you compare, because a longer trace is no worse a loop.

    EXAMPLE:
        >>> events = [Event("step", "user_annotation", 0, 9), Event("aten::item", "cpu_op", 2, 1)]
        >>> diagnose(events)
        {'sync': 1.0}

    HINTS:
        1. `within` is given. Outermost is by operators alone: go by start, as in Exercise 3.
        2. collections.Counter counts pairs such as (event.name, event.shapes).
        3. zip(event.types, event.shapes) pairs the two; bool(()) is False.
    """
    ### BEGIN SOLUTION
    marks = [e for e in events if e.kind == "user_annotation"]
    steps = [e for e in marks if e.name == "step"]
    if not steps:
        raise ValueError("no annotation called 'step' in this trace: was it made by record()?")
    spans = {name: [m for m in marks if m.name == name] for name in ("data", "forward")}
    operators = [e for e in events if e.kind == "cpu_op" and any(within(e, step) for step in steps)]
    counts, calls, last = Counter(), Counter(), Counter()
    for e in sorted(operators, key=lambda e: (e.start, -e.duration)):
        outer = e.start >= last[e.thread]
        last[e.thread] = e.end if outer else last[e.thread]
        data, forward = (any(within(e, span) for span in spans[name]) for name in spans)
        counts["sync"] += outer and e.name in ("aten::item", "aten::is_nonzero")
        counts["preprocessing"] += data and outer
        counts["float64"] += forward and outer and any(t == "double" and s for t, s in zip(e.types, e.shapes, strict=True))
        counts["copies"] += forward and e.name == "aten::clone"
        counts["constant"] += forward and outer and e.name == "aten::arange"
        calls[e.name, e.shapes] += forward and outer
    counts["rows"] = max(calls.values(), default=0)
    found = {name: count / len(steps) for name, count in counts.items()}
    return {name: count for name, count in found.items() if count > {"preprocessing": 16, "rows": 8}.get(name, 0)}
    ### END SOLUTION


# %% [markdown]
# The tests plant bottlenecks into loops that you have not seen, record real traces of them, and ask your function. This is the loop they plant into, with a few things that look suspicious and are not.

# %% nbgrader={"grade": false, "grade_id": "profiling-planted", "locked": true, "schema_version": 3, "solution": false, "task": false}
def planted(plants, rows=24, features=12, seed=0):
    """One step of training, as a function without arguments, with these bottlenecks in it and no others."""
    table = torch.randn(rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels, head, log = torch.arange(rows) % 3, nn.Linear(features, 3), []
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    kept = torch.arange(features).mul(0.1).sin()

    def data():
        batch = table[torch.arange(rows).flip(0)]
        if "preprocessing" in plants:
            return torch.stack([(row - row.mean()) / row.std() for row in batch]).float()
        return ((batch - batch.mean(1, keepdim=True)) / batch.std(1, keepdim=True)).float()

    def forward(x):
        wave = torch.arange(features).mul(0.1).sin() if "constant" in plants else kept
        x = (x * wave.double()).float() if "float64" in plants else x * wave
        x = x.t().contiguous().t().contiguous() if "copies" in plants else x
        scores = torch.stack([head(row) for row in x]) if "rows" in plants else head(x)
        return nn.functional.cross_entropy(scores * 0.5, labels)

    def step():
        with record_function("data"):
            x = data()
        with record_function("forward"):
            loss = forward(x)
        with record_function("backward"):
            (loss * 2).clone().backward()
        optimizer.step()
        if "sync" in plants:
            log.append(loss.item() if seed % 2 else bool(loss.detach() > 0))

    return step


# %% nbgrader={"grade": true, "grade_id": "test-profiling-diagnose", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: which bottlenecks are named in real traces of planted loops, and the number behind each.
# A wrong answer fails: it names what is not there (a Python number taken for float64), or misses what is.
# A pass: nothing is printed but the seed.
def test_unit_diagnose() -> None:
    for plants in ((), ("sync",), ("rows", "copies")):
        record(planted(plants), 2, scratch("planted.json"))
        found = diagnose(read_events(scratch("planted.json")))
        checking.equal(set(found), set(plants), what=f"findings with {plants or 'nothing'} planted")
    checking.equal(found, {"rows": 24.0, "copies": 2.0}, what="the evidence, for each step")
    checking.equal(diagnose([mark("step", 0, 10), op("aten::clone", 2, 3)]), {}, what="findings in a step without phases", hint="a clone outside forward is none")
    checking.raises(ValueError, diagnose, [], what="diagnose of an empty trace")
    ### BEGIN HIDDEN TESTS
    # check: each bottleneck alone, in loops of other sizes
    # hint: plant one at a time with planted(), record it, and print what your helper counts
    def trace(plants, steps=2, **sizes):
        step = planted(plants, **sizes)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            for _ in range(steps):
                with record_function("step"):
                    step()
        profiler.export_chrome_trace(str(scratch("hidden.json")))
        return read_events(scratch("hidden.json"))
    rng, every = random.Random(checking.secret_seed()), ("sync", "preprocessing", "rows", "float64", "copies", "constant")
    for name in every:
        rows = 9 if name == "rows" else rng.randrange(9, 25)  # 9 are the fewest that are a finding
        sizes = {"rows": rows, "features": rng.randrange(4, 20), "seed": rng.randrange(99)}
        found = diagnose(trace((name,), rng.randrange(1, 4), **sizes))
        checking.equal(set(found), {name}, what="findings")
        want = {"sync": 1.0, "rows": float(sizes["rows"]), "float64": 2.0, "copies": 2.0, "constant": 1.0}
        checking.equal(found[name], want.get(name, 4.0 * sizes["rows"] + 6), what=f"evidence of {name}")
    # check: several at once, events in any order
    # hint: does one finding hide another? does the order of the list matter?
    for _ in range(3):
        plants = set(rng.sample(every, rng.randrange(2, 6)))
        events = trace(plants, rows=rng.randrange(9, 20))
        rng.shuffle(events)
        checking.equal(set(diagnose(events)), plants, what="findings")
    ### END HIDDEN TESTS


test_unit_diagnose()

# %% [markdown]
# ### What just happened?
#
# Your code has found bottlenecks in loops that nobody has shown you, by counting. Now the patient. Compare with what you wrote down when you first read it.

# %%
slow_found = insight.run(lambda: diagnose(slow_events), needs="Exercises 1 and 4") if slow_events else None
for name, count in (slow_found or {}).items():
    print(f"{name:14} {count:7.1f} for each step")

# %% [markdown]
# ## Part 5: Out they go
#
# From here on you change code, one piece at a time. Each test asks two things: is the *result* the same, and is the *count* down? `counting` counts what really runs below the Python code: operators, the dtypes of what they write, and how often Python waits for a value.

# %% nbgrader={"grade": false, "grade_id": "profiling-counting", "locked": true, "schema_version": 3, "solution": false, "task": false}
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# %% nbgrader={"grade": false, "grade_id": "profiling-waiting", "locked": true, "schema_version": 3, "solution": false, "task": false}
WAITS = {"item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__", "__format__"}


class Waiting(TorchFunctionMode):
    """Counts how often Python asks for a value: on a GPU each of these is a synchronisation."""

    def __init__(self):
        super().__init__()
        self.syncs = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.syncs += getattr(function, "__name__", "") in WAITS
        return function(*args, **(kwargs or {}))


# %% nbgrader={"grade": false, "grade_id": "profiling-running", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Running(TorchDispatchMode):
    """Counts the operators that run, by name, and collects the dtypes that they write."""

    def __init__(self):
        super().__init__()
        self.operators, self.dtypes = Counter(), set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        self.operators[str(operator).split(".")[1]] += 1
        self.dtypes |= {t.dtype for t in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(t, torch.Tensor)}
        return result


# %% nbgrader={"grade": false, "grade_id": "profiling-counts", "locked": true, "schema_version": 3, "solution": false, "task": false}
def counting(call, *args):
    """What call(*args) returned; the operators that ran, as a Counter; the dtypes written; how often Python waited."""
    with Waiting() as waiting, Running() as running:
        result = call(*args)
    return result, running.operators, running.dtypes, waiting.syncs


# %% [markdown]
# ### Exercise 5: prepare all samples at once
#
# `slow_prepare` does three small operators for each sample. The arithmetic is the same for all of them, and broadcasting is older than deep learning.

# %% nbgrader={"grade": false, "grade_id": "profiling-prepare", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fast_prepare(raw: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Normalise each reading and clip it to [-3, 3], for all samples at once: bit for bit what slow_prepare gives.

    Args:
        raw: (samples, features), float64; samples may be 0; it need not be contiguous, and is not changed.
        mean: (features,), float64.
        std: (features,), float64, above 0.

    Returns:
        A new contiguous tensor of shape (samples, features), float32.

    TODO: The same arithmetic, in the same precision, with at most 6 operators whatever the number of samples.

    APPROACH:
        1. Let mean and std broadcast over the samples, because no sample needs a loop of its own.
        2. Stay in float64 until the end, because a reading of 50 with a spread of 0.01 has no digits to lose.
        3. Go to float32 in one step at the end, because everything after this works in float32.

    EXAMPLE:
        >>> fast_prepare(torch.tensor([[1.0], [9.0]]).double(), torch.ones(1).double(), torch.ones(1).double())
        tensor([[0.],
                [3.]])

    HINTS:
        1. (samples, features) and (features,) broadcast along the samples.
        2. There is no need for torch.stack: nothing has been taken apart.
        3. It is one line: what the loop's body says, with raw in the place of sample.
    """
    ### BEGIN SOLUTION
    return ((raw - mean) / std).clamp(-3.0, 3.0).float().contiguous()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-profiling-prepare", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the same bits as slow_prepare, at most 6 operators for any number of samples, and raw as it was.
# A wrong answer fails: early float32 changes the last bits; a loop runs operators in proportion to the samples.
# A pass: nothing is printed but the seed.
def test_unit_prepare() -> None:
    def check(samples, features, seed, spread=20.0):
        generator = torch.Generator().manual_seed(seed)
        raw = (torch.randn(features, samples, generator=generator, dtype=torch.float64) * spread + 50).t()
        mean, std = raw.mean(1).mean() + torch.zeros(features).double(), torch.full((features,), spread).double()
        with checking.unchanged(raw=raw, mean=mean, std=std):
            got, operators, _, syncs = counting(fast_prepare, raw, mean, std)
        checking.equal(got, slow_prepare(raw, mean, std), what=f"fast_prepare of {samples} x {features}",
                       hint="the same order of operations, in float64 up to the last one")
        assert got.is_contiguous(), "the result is not contiguous: the model would copy it, at each step"
        assert operators.total() <= 6, f"{operators.total()} operators for {samples} samples: {dict(operators)}"
        checking.equal(syncs, 0, what="values that Python waited for")

    check(1, 1, 0)
    check(200, 3, 1)
    ### BEGIN HIDDEN TESTS
    # check: other sizes, and readings whose digits float32 would lose
    # hint: at which point do you leave float64?
    seed = checking.secret_seed()
    for samples, features, spread in ((2, 31, 1e-4), (65, 7, 1e3), (129, 2, 1e-6)):
        check(samples, features, seed, spread)
    # check: no samples at all
    # hint: an empty batch is a batch; which shape does it have?
    one = torch.ones(4, dtype=torch.float64)
    checking.equal(fast_prepare(torch.ones(0, 4).double(), one, one), torch.ones(0, 4), what="fast_prepare of 0 samples")
    # check: readings far out, on both sides
    # hint: what is the largest value that may come out, and what the smallest?
    far = torch.tensor([[9.0, -9.0]]).double()
    checking.equal(fast_prepare(far, one[:2], one[:2]), torch.tensor([[3.0, -3.0]]), what="fast_prepare of 9 and -9")
    ### END HIDDEN TESTS


test_unit_prepare()


# %% [markdown]
# ### What just happened?
#
# The next cell counts both for 8 and for 80 samples. Samples went from a factor in the number of operators to a size *within* each operator. That is the whole trick of vectorisation, on a GPU even more: there each operator is a kernel launch, some 5 microseconds, whatever its size.

# %%
def prepare_counts(samples):
    raw, one = torch.zeros(samples, 3).double(), torch.ones(3).double()
    return [counting(prepare, raw, one, one)[1].total() for prepare in (slow_prepare, fast_prepare)]


# %%
for samples in (8, 80):
    counted = insight.run(lambda n=samples: prepare_counts(n), needs="Exercise 5 (fast_prepare)")
    print(f"{samples} samples: operators of slow_prepare and fast_prepare: {counted}")


# %% [markdown]
# ### Exercise 6: a forward pass without loops, copies and leaks
#
# `Slow.forward` has four of the six bottlenecks. Write `Fast`, a drop-in replacement: same parameters, same `state_dict`, same results.

# %% nbgrader={"grade": false, "grade_id": "profiling-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Fast(Slow):
    """Slow, without its four bottlenecks. (rows, features) -> (rows, classes); rows may be 0.

    The wave is computed once, in float64 as before, and kept as the non-persistent buffer `wave` of shape (hidden,) in
    the dtype of the parameters: so it follows `.to(...)`, and the state_dict is that of Slow.

    TODO: Compute the wave when the module is made, and all rows at once when it is called.

    APPROACH:
        1. Let Slow make the layers, because parameters and their names must stay.
        2. Register the wave as a buffer, because a plain attribute stays behind when the module moves.
        3. Give both layers the whole batch, because they work on the last axis and take any number of rows.

    EXAMPLE:
        >>> model = Fast(4, 8, 3)
        >>> model(torch.zeros(5, 4)).shape, model.wave.dtype, sorted(model.state_dict()) == sorted(Slow(4, 8, 3).state_dict())
        (torch.Size([5, 3]), torch.float32, True)

    HINTS:
        1. self.register_buffer(name, tensor, persistent=False) after super().__init__().
        2. The result of a linear layer is contiguous already.
        3. Where a float32 meets a float64 tensor, the result is float64: convert the wave, once.
    """

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        ### BEGIN SOLUTION
        super().__init__(features, hidden, classes)
        wave = torch.arange(hidden, dtype=torch.float64).mul(0.1).sin()
        self.register_buffer("wave", wave.to(self.head.weight.dtype), persistent=False)
        ### END SOLUTION

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        return self.head(torch.relu(self.encoder(x)) * self.wave)
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "profiling-twins", "locked": true, "schema_version": 3, "solution": false, "task": false}
def twins(one, other, features, hidden, classes, seed):
    """A model of each class, with the same parameters."""
    torch.manual_seed(seed)
    first, second = one(features, hidden, classes), other(features, hidden, classes)
    second.load_state_dict(first.state_dict())
    return first, second


# %% nbgrader={"grade": true, "grade_id": "test-profiling-fast", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: logits and gradients of Slow, few operators whatever the rows, nothing in float64, a wave that follows .to().
# A wrong answer fails: a wave that is made in forward shows as aten::arange, a loop as operators in proportion.
# A pass: nothing is printed but the seed.
def test_unit_fast() -> None:
    def check(rows, features, hidden, classes, seed):
        slow, fast = twins(Slow, Fast, features, hidden, classes, seed)
        x = torch.randn(rows, features).clamp(-3, 3)
        got, operators, dtypes, syncs = counting(fast, x)
        want = slow(x)
        # Two sums of at most 64 products each below 2 in size, in another order: 64 * 64 * 2 * 2**-24 = 4.9e-4 at worst;
        # roundings have both signs, and sqrt(64 * 64) * 2 * 2**-24 * 4 standard deviations = 3.1e-5.
        checking.close(got, want, rtol=0, atol=4e-5, what=f"logits of {rows} rows", hint="the wave belongs on relu's result")
        assert operators.total() <= 10, f"{operators.total()} operators for {rows} rows: {dict(operators)}"
        extra = {"arange", "sin", "clone", "_to_copy", "copy_"} & set(operators)
        assert not extra, f"forward still runs {extra}: what of it depends on x?"
        checking.equal(dtypes, {torch.float32}, what="dtypes written in forward", hint="who promotes to float64?")
        checking.equal(syncs, 0, what="values that Python waited for")
        for model in (slow, fast):
            model(x).sum().backward()
        checking.close(fast.head.weight.grad, slow.head.weight.grad, rtol=1e-5, atol=4e-5 * rows, what="gradient of the head")

    check(9, 4, 8, 3, 0)
    double = Fast(4, 8, 3).double()
    checking.equal(double.wave.dtype, torch.float64, what="dtype of the wave after .double()", hint="register_buffer")
    checking.equal(double(torch.ones(2, 4).double()).dtype, torch.float64, what="dtype of the logits after .double()")
    ### BEGIN HIDDEN TESTS
    # check: other sizes, one row, many rows
    # hint: does your forward say anything about how many rows there are?
    seed = checking.secret_seed()
    for rows, features, hidden, classes in ((1, 1, 1, 2), (33, 12, 64, 5), (120, 7, 31, 2)):
        check(rows, features, hidden, classes, seed)
    # check: no rows, and the names in the state_dict
    # hint: an empty batch gives empty logits; a non-persistent buffer is in no state_dict
    checking.equal(Fast(3, 5, 2)(torch.ones(0, 3)).shape, (0, 2), what="shape of the logits of 0 rows")
    checking.equal(set(Fast(3, 5, 2).state_dict()), set(Slow(3, 5, 2).state_dict()), what="names in the state_dict")
    assert "wave" in dict(Fast(3, 5, 2).named_buffers()), "the wave is no buffer: it stays behind when the model moves"
    ### END HIDDEN TESTS


test_unit_fast()


# %% [markdown]
# ### What just happened?
#
# Four findings went with four lines. Note what made this safe: the same `state_dict`, the same logits up to rounding, and a count that can be compared. "Looks equivalent" is how a wave ends up in float16 in production.

# %% [markdown]
# ### Systems insight 2 of 3: what grows, and what does not
#
# **Checkpoint:** you have a fast pipeline and a fast model. **Predict:** the batch grows from 8 to 128 samples. By how much does the time of the slow forward pass grow, and that of yours?

# %%
def growth(sizes=(8, 32, 128)):
    """Microseconds of one forward pass by the number of rows, for both models."""
    torch.manual_seed(0)
    models = {"Slow": Slow(12, 32, 3), "Fast": Fast(12, 32, 3)}
    times = {name: [] for name in models}
    for rows in sizes:
        x = torch.randn(rows, 12)
        for name, model in models.items():
            times[name].append(1e6 * timing.measure(model, lambda x=x: (x,), repeats=5, warmup=1, flush=False).median)
    return sizes, times


# %%
grown = insight.run(growth, needs="Exercise 6 (Fast)")
if grown:
    insight.lines(*grown, xlabel="rows", ylabel="µs", title="One forward pass", logx=True, logy=True)


# %% [markdown]
# The slow one pays by the row, yours by the operator: at these sizes the cost of a call is the cost of calling. In production this is why small batches waste a GPU, and why a profile of a toy says little about the real size: *what grows* is the question that carries over.

# %% [markdown]
# ### Exercise 7: train without waiting, and without work for nothing
#
# `slow_train` waits for the loss of each batch, and computes gradients for an encoder that is not trained: the optimiser then multiplies them by a learning rate of 0. `learn`, which does one step, is fine as it is.

# %% nbgrader={"grade": false, "grade_id": "profiling-fast-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fast_train(model: nn.Module, batches, lr: float) -> list[float]:
    """What slow_train does: one step of plain SGD on the head for each batch; the encoder stays as it is.

    Args:
        model: has the parts `encoder` and `head`; model(x) gives the logits. Its head's parameters are trained in place.
        batches: a list of pairs (x, labels); may be empty.
        lr: the learning rate.

    Returns:
        The loss of each batch before its step, as Python floats.

    TODO: The same training with no gradient for the encoder, and at most one wait for a value in the whole call.

    APPROACH:
        1. Switch off gradients for the encoder's parameters, because autograd then leaves their products out.
        2. Give the optimiser the head's parameters alone, because it should not hold what it must not touch.
        3. Keep each loss as a detached tensor and read all of them at the end, because one wait is enough.

    EXAMPLE:
        >>> model = Slow(4, 8, 3)
        >>> losses = fast_train(model, [(torch.zeros(3, 4), torch.tensor([0, 1, 2]))] * 2, lr=0.1)
        >>> [type(loss).__name__ for loss in losses], model.encoder.weight.grad
        (['float', 'float'], None)

    HINTS:
        1. module.requires_grad_(False) does it for all of its parameters.
        2. A loss that is kept with its graph keeps all activations alive: detach it.
        3. torch.stack(...) of an empty list fails; .tolist() of a vector waits once.
    """
    ### BEGIN SOLUTION
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=lr)
    losses = []
    for x, labels in batches:
        losses.append(learn(model, optimizer, x, labels).detach())
    return torch.stack(losses).tolist() if losses else []
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "profiling-probe", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Probe(nn.Module):
    """A model with an encoder and a head that owes nothing to Exercise 6."""

    def __init__(self, features, hidden, classes):
        super().__init__()
        self.encoder, self.head = nn.Linear(features, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x)))


# %% nbgrader={"grade": true, "grade_id": "test-profiling-fast-train", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: the losses and parameters of slow_train, the encoder untouched, at most one wait, three products for each batch.
# A wrong answer fails: item() for each batch waits; an encoder with gradients costs two products more.
# A pass: nothing is printed but the seed.
def test_unit_fast_train() -> None:
    def check(count, rows, features, hidden, classes, lr, seed):
        slow, fast = twins(Probe, Probe, features, hidden, classes, seed)
        batches = [(torch.randn(rows, features), torch.randint(classes, (rows,))) for _ in range(count)]
        got, operators, _, syncs = counting(fast_train, fast, batches, lr)
        want, what = slow_train(slow, batches, lr), f"{count} batches of {rows}"
        assert type(got) is list and all(type(loss) is float for loss in got), "the losses are a list of Python floats"
        # The same operators in the same order: equal but for a product that is computed with another layout, 1e-6.
        checking.close(np.array(got), np.array(want), rtol=1e-5, atol=1e-6, what=f"losses of {what}", hint="before or after?")
        for name, value in slow.named_parameters():
            checking.close(fast.get_parameter(name).detach(), value.detach(), rtol=1e-5, atol=1e-6, what=f"{name} after {what}")
        assert fast.encoder.weight.grad is None and fast.encoder.bias.grad is None, "the encoder has got a gradient"
        assert syncs <= 1, f"Python waited {syncs} times for a value: read the losses together, at the end"
        products = sum(operators[name] for name in ("mm", "addmm", "bmm", "matmul", "mv", "addmv", "linear"))
        assert products <= 3 * count, f"{products} products for {count} batches: two forward, one for the head's gradient"

    check(3, 5, 4, 6, 3, 0.1, 0)
    checking.equal(fast_train(Probe(2, 3, 2), [], 0.1), [], what="the losses of no batch")
    ### BEGIN HIDDEN TESTS
    # check: other models, rates and numbers of batches
    # hint: compare your losses with slow_train's, one by one: where do they part?
    rng = random.Random(checking.secret_seed())
    for count in (1, rng.randrange(4, 9)):
        check(count, rng.randrange(1, 20), rng.randrange(1, 9), rng.randrange(2, 30), 3, rng.uniform(0.05, 0.5), rng.randrange(99))
    # check: a call after another call
    # hint: what of the first call is still in the model: gradients, an optimiser?
    slow, fast = twins(Probe, Probe, 3, 5, 2, rng.randrange(99))
    batch = [(torch.randn(6, 3), torch.tensor([0, 1] * 3))]
    want, got = [slow_train(slow, batch, 0.2) for _ in range(3)], [fast_train(fast, batch, 0.2) for _ in range(3)]
    checking.close(np.array(got), np.array(want), rtol=1e-5, atol=1e-6, what="losses of three calls")
    ### END HIDDEN TESTS


test_unit_fast_train()


# %% [markdown]
# ### What just happened?
#
# The backward pass now starts at the loss and stops at the head: autograd prunes what nobody asked for. On a GPU the loop no longer stops once a step either, and a hundred steps can be queued before the first has ended. The counts of three batches:

# %%
def train_counts(train):
    batches = [(torch.ones(6, 4), torch.tensor([0, 1, 2] * 2))] * 3
    _, operators, _, syncs = counting(train, Probe(4, 8, 3), batches, 0.1)
    return f"{operators.total()} operators, {operators['mm']} products in backward, {syncs} waits"


# %%
print("slow:", train_counts(slow_train))
print("fast:", insight.run(lambda: train_counts(fast_train), needs="Exercise 7"))


# %% [markdown]
# ## Part 6: What a fix can gain
#
# ### Exercise 8: Amdahl's law, for several parts
#
# You have shares (Exercise 3) and, before you write a fix, only a guess of its factor. The law says what the whole can gain, and it is best known *before* the work.

# %% nbgrader={"grade": false, "grade_id": "profiling-amdahl", "locked": false, "schema_version": 3, "solution": true, "task": false}
def predicted_speedup(shares: dict[str, float], factors: dict[str, float]) -> float:
    """How much faster the whole gets when some of its parts get faster.

    Args:
        shares: the share of the time that each part takes, 0 to 1, together at most 1 (up to 1e-9); the rest stays.
        factors: how much faster each changed part gets, above 0; math.inf removes it; below 1 slows it down.

    Returns:
        Old time over new time; math.inf if nothing is left of it: a rest below 1e-9 counts as 0.

    Raises:
        ValueError: a factor is 0 or less, a part in factors is not in shares, or the shares add up to more than 1.

    TODO: Add up the new times of all parts, in units of the old whole, and divide.

    APPROACH:
        1. Refuse what makes no sense first, because the formula would give a number for it all the same.
        2. Each part's new time is its share over its factor, 1 where none is given, because it stays as it is.
        3. What no share covers stays too, because there is always something that was not measured.

    EXAMPLE:
        >>> predicted_speedup({"data": 0.5, "forward": 0.25}, {"data": 2.0})
        1.3333333333333333

    HINTS:
        1. The rest is 1 minus the sum of all shares.
        2. factors.get(part, 1.0)
        3. A number over math.inf is 0.0; a number over 0.0 is an error: ask first.
    """
    ### BEGIN SOLUTION
    if any(not factor > 0 for factor in factors.values()):
        raise ValueError(f"factors are above 0: {factors}")
    if not set(factors) <= set(shares) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares {shares} do not cover {set(factors) - set(shares)}, or add up to more than 1")
    left = 1 - sum(shares.values()) + sum(share / factors.get(part, 1.0) for part, share in shares.items())
    return 1 / left if left > 1e-9 else math.inf
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-profiling-amdahl", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the closed form, parts that go away or get slower, and what is refused.
# A wrong answer fails: factors multiplied with each other; a rest that is forgotten.
# A pass: nothing is printed but the seed.
def test_unit_amdahl() -> None:
    def check(shares, factors, want):
        # Some ten roundings of numbers below 2, in the worst case divided by 0.01: 10 * 2**-53 * 100 = 1.1e-13.
        checking.close(predicted_speedup(shares, factors), want, rtol=2e-13, atol=0, what=f"{shares} with {factors}")

    check({"a": 0.3, "b": 0.2}, {"a": 10.0}, 1 / 0.73)
    check({"a": 0.3, "b": 0.2}, {"a": 3.0, "b": math.inf}, 1 / 0.6)
    check({"a": 0.5}, {}, 1.0)
    check({"a": 0.5}, {"a": 0.5}, 1 / 1.5)
    checking.raises(ValueError, predicted_speedup, {"a": 0.5}, {"b": 2.0}, what="a part without a share")
    checking.raises(ValueError, predicted_speedup, {"a": 0.5}, {"a": 0.0}, what="a factor of 0")
    checking.raises(ValueError, predicted_speedup, {"a": 0.7, "b": 0.4}, {"a": 2.0}, what="shares above 1")
    ### BEGIN HIDDEN TESTS
    # check: random parts against their times
    # hint: take old times in seconds, divide them by the factors, and add up both
    rng = random.Random(checking.secret_seed())
    for _ in range(5):
        old = [rng.uniform(0.1, 9) for _ in range(rng.randrange(2, 7))]
        shares = {str(k): time / sum(old) for k, time in enumerate(old[:-1])}
        factors = {part: rng.uniform(0.5, 40) for part in shares if rng.random() < 0.7}
        check(shares, factors, sum(old) / sum(time / factors.get(str(k), 1.0) for k, time in enumerate(old)))
    # check: the whole goes away, and a factor that is negative
    # hint: what is left, and may one divide by it?
    checking.equal(predicted_speedup({"a": 0.75, "b": 0.25}, dict.fromkeys("ab", math.inf)), math.inf, what="nothing left")
    checking.raises(ValueError, predicted_speedup, {"a": 0.5}, {"a": -1.0}, what="a negative factor")
    ### END HIDDEN TESTS


test_unit_amdahl()


# %% [markdown]
# ### What just happened?
#
# With `math.inf` for one phase after the other you get the *ceiling* of each fix. Next it meets reality.

# %% [markdown]
# ### Systems insight 3 of 3: predicted and measured
#
# **Checkpoint:** everything is fixed, and you can predict. **Predict:** which of the three fixes gains most? Is the measured gain above or below the prediction made from the trace's shares?

# %%
def staircase():
    """Milliseconds of a step by the clock, as one fix after the other goes in, and the ceiling that the trace gave."""
    torch.manual_seed(0)
    stairs = {
        "slow": one_step(slow_prepare, Slow(12, 32, 3), slow_train),
        "+ prepare": one_step(fast_prepare, Slow(12, 32, 3), slow_train),
        "+ model": one_step(fast_prepare, Fast(12, 32, 3), slow_train),
        "+ training": one_step(fast_prepare, Fast(12, 32, 3), fast_train),
    }
    times = {name: 1e3 * timing.measure(step, repeats=15, flush=False).median for name, step in stairs.items()}
    phases = {name: share for name, share in shares(slow_events).items() if name in ("data", "forward", "backward")}
    ceilings = {name: predicted_speedup(phases, {name: math.inf}) for name in phases}
    return times, ceilings


# %%
stairs = insight.run(staircase, needs="Exercises 1, 3, 5, 6, 7 and 8")
if stairs:
    times, ceilings = stairs
    insight.bars(times, ylabel="ms", title="A step of training, one fix after the other")
    print("at most, by the trace:", {name: f"{gain:.2f} x" for name, gain in ceilings.items()})
    print(f"prepare gained {times['slow'] / times['+ prepare']:.2f} x, all together {times['slow'] / times['+ training']:.1f} x")

# %% [markdown]
# The prediction is made from a *recorded* step, in which tiny calls look larger than they are (insight 1): a phase full of them gets too large a share. So read a ceiling as an order of work, largest first, and not as a promise. In production the list "phase, share, ceiling, effort" is the report; yours follows in "Reflect".

# %% [markdown]
# ## Part 7: The same questions, on a GPU
#
# ### Exercise 9: read what Nsight Systems wrote
#
# On a GPU the operators of your trace only *launch* kernels. What the GPU itself does is recorded by Nsight Systems (`nsys profile`), and `nsys export --type sqlite` turns its record into tables: `CUPTI_ACTIVITY_KIND_KERNEL`, `CUPTI_ACTIVITY_KIND_MEMCPY`, and `StringIds`, to which names point. Tables are made when the first row comes: a program that copies nothing has no `MEMCPY` table.

# %% nbgrader={"grade": false, "grade_id": "profiling-nsys", "locked": true, "schema_version": 3, "solution": false, "task": false}
COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD"}  # CUpti_ActivityMemcpyKind


def write_nsys(path, kernels, copies):
    """The tables of an nsys export that this lab needs. kernels: (name, start, end, stream); copies: (start, end, bytes, kind)."""
    Path(path).unlink(missing_ok=True)
    long_names = {name: f"void {name}<float>(int, float *)" for name, *_ in kernels}
    ids = {text: 7 * k + 100 for k, text in enumerate([*long_names, *long_names.values()])}
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL)")
        db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(k, text) for text, k in ids.items()])
        if kernels:
            db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, "
                       "streamId INTEGER NOT NULL, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL)")
            rows = [(start, end, stream, ids[long_names[name]], ids[name]) for name, start, end, stream in kernels]
            db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?, ?)", rows)
        if copies:
            db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, "
                       "bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL)")
            db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (?, ?, ?, ?)", copies)
        db.commit()


# %%
write_nsys(scratch("look.sqlite"), [("gemm", 0, 60, 7)], [])
with closing(sqlite3.connect(scratch("look.sqlite"))) as db:
    for name, sql in db.execute("SELECT name, sql FROM sqlite_master"):
        print(sql, db.execute(f"SELECT * FROM {name}").fetchall())


# %% nbgrader={"grade": false, "grade_id": "profiling-gpu-report", "locked": true, "schema_version": 3, "solution": false, "task": false}
class GpuReport(NamedTuple):
    """What a GPU did: calls and ns of each kernel, bytes copied in each direction, the busy share, the longest gap."""

    kernels: dict[str, tuple[int, int]]
    copied: dict[str, int]
    busy: float
    longest_gap: int


# %% nbgrader={"grade": false, "grade_id": "profiling-read-nsys", "locked": false, "schema_version": 3, "solution": true, "task": false}
def read_nsys(path) -> GpuReport:
    """Summarise the SQLite export of an Nsight Systems profile.

    Args:
        path: the file. Times are in ns. Of the tables of kernels and of copies either, or both, may be missing.

    Returns:
        kernels: (calls, sum of durations) by the kernel's *short* name. copied: bytes by direction, named as in
        COPY_KINDS; directions that do not occur are left out. busy: the share of the time from the first start to the
        last end in which at least one kernel or copy runs. longest_gap: the longest time within it in which none does.

    Raises:
        ValueError: there is neither a kernel nor a copy.

    TODO: Read both tables, and add up the union of all intervals: streams overlap.

    APPROACH:
        1. Ask sqlite_master which tables there are, because a missing one is an error to a query.
        2. Join the kernels with StringIds on shortName, because the table holds numbers for names.
        3. Go through all intervals by start with the latest end so far, because overlap must not count twice.

    EXAMPLE:
        >>> write_nsys(scratch("doc.sqlite"), [("gemm", 0, 60, 7), ("relu", 80, 90, 7)], [(50, 70, 4096, 1)])
        >>> read_nsys(scratch("doc.sqlite"))
        GpuReport(kernels={'gemm': (1, 60), 'relu': (1, 10)}, copied={'HtoD': 4096}, busy=0.8888888888888888, longest_gap=10)

    HINTS:
        1. SELECT name FROM sqlite_master WHERE type = 'table'
        2. SELECT value, start, end FROM CUPTI_ACTIVITY_KIND_KERNEL JOIN StringIds ON shortName = id
        3. What an interval adds is end - max(start, latest end so far), if that is positive.
    """
    ### BEGIN SOLUTION
    kernels, copied, spans = {}, Counter(), []
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
            names = dict(db.execute("SELECT id, value FROM StringIds"))
            for key, start, end in db.execute("SELECT shortName, start, end FROM CUPTI_ACTIVITY_KIND_KERNEL"):
                calls, ns = kernels.get(names[key], (0, 0))
                kernels[names[key]] = (calls + 1, ns + end - start)
                spans.append((start, end))
        if "CUPTI_ACTIVITY_KIND_MEMCPY" in tables:
            for start, end, size, kind in db.execute("SELECT start, end, bytes, copyKind FROM CUPTI_ACTIVITY_KIND_MEMCPY"):
                copied[COPY_KINDS[kind]] += size
                spans.append((start, end))
    if not spans:
        raise ValueError(f"{path}: neither a kernel nor a copy was recorded; was the program profiled on a GPU?")
    first = latest = min(spans)[0]
    busy = gap = 0
    for start, end in sorted(spans):
        gap = max(gap, start - latest)
        busy += max(0, end - max(start, latest))
        latest = max(latest, end)
    return GpuReport(kernels, dict(copied), busy / (latest - first), gap)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "profiling-check-nsys", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_nsys(kernels, copies, want, hint=""):
    """Write an export, read it, compare field by field."""
    path = scratch("test.sqlite")
    write_nsys(path, kernels, copies)
    got = read_nsys(path)
    checking.equal(got.kernels, want.kernels, what="kernels", hint=hint or "StringIds: which column is the short name?")
    checking.equal(got.copied, want.copied, what="bytes copied", hint=hint or "COPY_KINDS")
    # One division of whole numbers: half a unit of 2**-53; two, to be generous.
    checking.close(got.busy, want.busy, rtol=0, atol=2.0**-52, what="busy share", hint=hint or "do intervals overlap?")
    checking.equal(got.longest_gap, want.longest_gap, what="longest gap", hint=hint)


# %% nbgrader={"grade": true, "grade_id": "test-profiling-read-nsys", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: names, calls, times and bytes; overlap of streams; missing tables; the busy share and the longest gap.
# A wrong answer fails: durations added up where streams overlap give a GPU that is busy for more than all the time.
# A pass: nothing is printed but the seed.
def test_unit_read_nsys() -> None:
    check = check_nsys
    check([("gemm", 100, 160, 7), ("gemm", 150, 200, 8), ("relu", 260, 300, 7)], [(120, 130, 64, 2), (210, 220, 8, 2)],
          GpuReport({"gemm": (2, 110), "relu": (1, 40)}, {"DtoH": 72}, 150 / 200, 40))
    check([("relu", 5, 9, 7)], [], GpuReport({"relu": (1, 4)}, {}, 1.0, 0), "the table of copies is missing")
    write_nsys(scratch("empty.sqlite"), [], [])
    checking.raises(ValueError, read_nsys, scratch("empty.sqlite"), what="an export without any activity")
    ### BEGIN HIDDEN TESTS
    # check: many kernels and copies on several streams
    # hint: paint each interval on a line of nanoseconds and count what is painted
    rng = random.Random(checking.secret_seed())
    line, kernels, want, copied, copies = np.zeros(6000, bool), [], {}, Counter(), []
    for _ in range(rng.randrange(20, 40)):
        name, start, length = rng.choice(["gemm", "softmax", "adam", "copy"]), rng.randrange(5000), rng.randrange(5, 200)
        kernels.append((name, start, start + length, rng.randrange(7, 10)))
        want[name] = (want.get(name, (0, 0))[0] + 1, want.get(name, (0, 0))[1] + length)
        line[start : start + length] = True
    for kind in rng.choices([1, 2, 8], k=6):
        start, length, size = rng.randrange(5000), rng.randrange(5, 200), rng.randrange(1 << 30)
        copies.append((start, start + length, size, kind))
        copied[COPY_KINDS[kind]] += size
        line[start : start + length] = True
    painted = np.flatnonzero(line)
    report = GpuReport(want, dict(copied), painted.size / int(np.ptp(painted) + 1), int(np.diff(painted).max() - 1))
    check(kernels, copies, report)
    # check: copies only
    # hint: which of the tables may be missing?
    check([], copies[:1], GpuReport({}, {COPY_KINDS[copies[0][3]]: copies[0][2]}, 1.0, 0))
    ### END HIDDEN TESTS


test_unit_read_nsys()


# %% [markdown]
# ### What just happened?
#
# The same three questions as before: whose time, how often, and when does nobody work? The next cell reads a made-up export of an unhealthy loop: fifty steps, each with two kernels, a copy of one float back to the host, and silence.

# %%
def unhealthy():
    """The report on fifty steps of 1 ms each, in which the GPU works for 0.21 ms."""
    ms = 1_000_000
    kernels = [(n, k * ms + a, k * ms + b, 7) for k in range(50) for n, a, b in (("gemm", 0, 150_000), ("relu", 150_000, 200_000))]
    write_nsys(scratch("unhealthy.sqlite"), kernels, [(k * ms + 200_000, k * ms + 210_000, 4, 2) for k in range(50)])
    return read_nsys(scratch("unhealthy.sqlite"))


# %%
print(insight.run(unhealthy, needs="Exercise 9 (read_nsys)"))


# %% [markdown]
# ## Put it together
#
# Everything at once: your recorder records the patient, your diagnosis names all six bottlenecks; then the healed loop, on which it finds none, and which has learned the same.

# %% nbgrader={"grade": true, "grade_id": "test-profiling-all", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Checks: the way from trace to findings to a healed loop, on the patient itself.
# A wrong answer fails: something is still found in your loop, or it learned something else.
# A pass: one line that says so.
def test_unit_all() -> None:
    for test in (test_unit_record, test_unit_summarize, test_unit_shares, test_unit_diagnose, test_unit_prepare,
                 test_unit_fast, test_unit_fast_train, test_unit_amdahl, test_unit_read_nsys):
        test()
    slow, fast = twins(Slow, Fast, 12, 32, 3, 3)
    found = {}
    for name, step in {"slow": one_step(slow_prepare, slow, slow_train, 12), "fast": one_step(fast_prepare, fast, fast_train, 12)}.items():
        record(step, 3, scratch("all.json"))
        found[name] = set(diagnose(read_events(scratch("all.json"))))
    every = {"sync", "preprocessing", "rows", "float64", "copies", "constant"}
    checking.equal(found["slow"], every, what="findings in the patient")
    checking.equal(found["fast"], set(), what="findings in your loop")
    # Four steps on logits that differ by at most 4e-5 (Exercise 6): the head differs by less than 4 * 0.1 * 4e-5 * 3.
    checking.close(fast.head.weight.detach(), slow.head.weight.detach(), rtol=0, atol=5e-5, what="the head after four steps")
    print("Diagnosed, healed, and it learns the same.")


test_unit_all()


# %% [markdown]
# ## Use it: where does this notebook's own model work?
#
# The tools know nothing of the patient. Here they look at something else: an attention layer of `torch.nn`, forward and backward. Which operators own the time, and does the diagnosis find something in code that professionals wrote?

# %%
def attention_step(rows=16, length=64, width=64):
    """One step of an attention layer, with the marks that diagnose() expects."""
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(width, 4, batch_first=True), torch.randn(rows, length, width)

    def step():
        with record_function("forward"):
            loss = layer(x, x, x, need_weights=False)[0].square().mean()
        with record_function("backward"):
            loss.backward()

    return step


# %%
def look_at_attention():
    record(attention_step(), 3, scratch("attention.json"))
    events = read_events(scratch("attention.json"))
    top(events, 8)
    print("findings:", diagnose(events))
    return shares(events)


# %%
found_shares = insight.run(look_at_attention, needs="Exercises 1 to 4")
if found_shares:
    insight.bars(found_shares, ylabel="share of a step", title="An attention layer on this machine's CPU")


# %% [markdown]
# A finding is a question, not a verdict: a copy that makes the next product contiguous may well pay for itself. That is why step two of the pattern is called *hypothesis*.

# %% [markdown]
# ## On your Spark
#
# The real size: a transformer layer in bf16, batches that come from the CPU. In the container `nvcr.io/nvidia/pytorch:25.11-py3` with `--gpus all --ipc=host` (lab 1.1.3), after clearing the page cache (`sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`), save the next cell's function in `spark.py`, with its imports (torch, `from torch import nn`, `from labkit import hardware`) and a call of it, and:
#
# ```bash
# nsys profile --trace=cuda,nvtx,osrt --capture-range=cudaProfilerApi --force-overwrite=true -o spark python spark.py
# nsys stats --report cuda_gpu_kern_sum,cuda_gpu_mem_size_sum,nvtx_sum spark.nsys-rep
# nsys export --type sqlite --force-overwrite=true -o spark.sqlite spark.nsys-rep
# ```
#
# Then `read_nsys("spark.sqlite")`. Run it with `waiting=True` and `waiting=False`, and look at both in the Nsight Systems window: the NVTX rows show your ranges above the kernels. For one kernel's own limits: `ncu --set full --profile-from-start off -c 3 python spark.py`. Not yet measured on a GPU by the authors; your numbers are news.

# %%
def full_size(waiting, steps=30, rows=32, length=1024, width=2048):
    """Steps of one bf16 transformer layer, each in an NVTX range; captures for nsys after 5 steps of warm-up."""
    hardware.require_gpu("the full-size run")
    layer = nn.TransformerEncoderLayer(width, 16, 4 * width, batch_first=True, device="cuda", dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-4)
    host = torch.randn(rows, length, width, dtype=torch.bfloat16, pin_memory=True)
    for k in range(steps + 5):
        if k == 5:
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
        with torch.cuda.nvtx.range("step"):
            with torch.cuda.nvtx.range("data"):
                x = host.to("cuda", non_blocking=True)
            with torch.cuda.nvtx.range("forward"):
                loss = layer(x).float().square().mean()
            with torch.cuda.nvtx.range("backward"):
                loss.backward()
            with torch.cuda.nvtx.range("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            if waiting:
                loss.item()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {
    "device": None,                                      # such as "NVIDIA GB10"
    "busy": {"waiting": None, "not waiting": None},      # the share from read_nsys
    "longest_gap_ns": {"waiting": None, "not waiting": None},
    "top_kernel": None,                                  # its short name
}


# %% nbgrader={"grade": false, "grade_id": "profiling-check-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record):
    """Whether the record is complete and possible. Nothing is graded here."""
    flat = {**{key: record[key] for key in ("device", "top_kernel")}, **record["busy"], **record["longest_gap_ns"]}
    missing = [name for name, value in flat.items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    if not all(0 < share <= 1 for share in record["busy"].values()):
        return "A busy share lies above 0 and is at most 1: were overlapping streams counted twice?"
    return f"{record['device']}: busy {record['busy']['waiting']:.0%} waiting, {record['busy']['not waiting']:.0%} not waiting."


# %%
print(check_record(spark_record))

# %% [markdown]
# ## Common mistakes
#
# **1. The first step is in the trace.** Allocation and initialisation then look like the hottest spot.
#
# ```python
# with profile() as p: step(); step()            # wrong: the first one pays for everything that happens once
# step();  with profile() as p: step()           # right
# ```
#
# **2. Totals are added up.** Totals contain each other; their sum is a multiple of the time. Only own times add up.
#
# ```python
# sum(row.total for row in rows)                 # wrong
# sum(row.own for row in rows)                   # right: the time of the outermost events
# ```
#
# **3. Durations are added up where intervals overlap.** Two streams, or an operator within an operator, and the GPU is "130 % busy".
#
# ```python
# busy = sum(end - start for start, end in spans)            # wrong
# busy += max(0, end - max(start, latest))                   # right, by start, with the latest end so far
# ```

# %% [markdown]
# **4. Every "double" is a leak.** A Python number shows as a double without an axis, and costs nothing.
#
# ```python
# any(t == "double" for t in event.types)                    # wrong: finds x * 0.5
# any(t == "double" and s for t, s in zip(types, shapes))    # right
# ```
#
# **5. Speed-ups are multiplied.** Two parts of 30 %, each twice as fast, do not make the whole four times as fast.
#
# ```python
# factors["a"] * factors["b"]                                # wrong
# 1 / (rest + share_a / factor_a + share_b / factor_b)       # right
# ```
#
# **6. `loss.item()` "only for the log".** On a GPU it stops the queue at each step. Keep the detached loss, and read many at once.

# %% [markdown]
# ## Reflect
#
# Three questions, read by a person, on your own traces, functions and numbers. Together they are the report that a profile is for.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-profiling-report", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: the report (3 points).** Write the report on the patient for a colleague who will decide which fix to do first. A table of at least three findings from *your* trace: what, the evidence (counts for each step, from `diagnose` or `top`), the phase and its share (from `shares`), the ceiling of a fix (from `predicted_speedup`). Then: your recommendation, in which order, and what you measured when you did it (insight 3).
#
# ### BEGIN SOLUTION
# For example: rows, 64 or more calls of the same small linear layer for each step, forward, share 0.5, ceiling 2.0; backward shrinks with it, since each of these calls has its own gradient (share 0.35, ceiling 1.5); preprocessing, about 200 operators in data, share 0.12, ceiling 1.14; sync, 1 for each step, nothing on a CPU, first thing to fix on a GPU. Order: the model first (forward and backward together: 1 / (1 - 0.85) = 6.7), then prepare, then training. Measured: 1.1 for prepare, 20 for the model on top of it, 1.3 for training.
#
# ### BEGIN MARK SCHEME
# - 1 point: at least three findings with numbers of their own trace, in the right phases. Half: names without numbers, or copied numbers that do not fit their own output.
# - 1 point: ceilings from shares, and an order that follows from them; a good reason for another order (effort, a GPU) counts. Half: an order without ceilings.
# - 1 point: measured gains set against predicted ones, with one reason why they differ (the profiler inflates tiny calls; backward shrinks with forward; noise). Half: both numbers, no reason.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-profiling-scale", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: scaling (3 points).** (a) From insight 2: how do the times of `Slow` and `Fast` grow from 8 to 128 rows, and why? (b) At which size would you expect `Fast` to start growing in proportion, and how would you find out from a trace rather than from a clock? (c) The model gets a hundred times larger and moves to a GPU. Which of your six findings become more important, which less? One sentence each for three of them.
#
# ### BEGIN SOLUTION
# (a) Slow grows about 16 times: it runs a fixed number of operators for each row. Fast hardly grows: the same five operators, whose cost here is that of calling them. (b) When the arithmetic of a product takes longer than the call: the own time of aten::addmm then grows with the rows while its count stays the same. (c) rows: more, each tiny kernel costs a launch while the GPU could do thousands of rows in it. float64: much more, GPUs for machine learning do float64 at a small fraction of their float32 rate. sync: more, it empties the queue. constant: less, one small kernel among large ones. preprocessing: more, the GPU waits for it, unless it runs beside (workers) or on the GPU.
#
# ### BEGIN MARK SCHEME
# - 1 point: both growth factors from their own figure, explained by operators for each row. Half: factors without the reason.
# - 1 point: calling cost against arithmetic, and own time for each call as the evidence. Half: a size without a way to see it.
# - 1 point: three findings with a right direction and a reason. Half: two.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-profiling-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** You are to keep the team's training loop healthy for a year. (a) Which of this lab's checks would you put into continuous integration, on counts or on times, and why? Name one of your functions and the threshold you would set. (b) What does recording cost (your insight 1), and how would you sample traces in a run of three weeks? (c) Give one bottleneck that your `diagnose` cannot see, and what evidence would show it.
#
# ### BEGIN SOLUTION
# (a) Counts: diagnose() on three steps of a small model must return {}, operators for each step from counting() at most 5 % above the last release. Counts are the same on every machine, times on a shared CI machine vary by tens of percent. (b) Tiny calls got 1.5 to 3 times slower while recorded: so not always on, but ten steps after warm-up once an hour and after each change, the times taken from the unrecorded steps. (c) A loader that is slow in Python without any operator: shares()["no operator"] in data, or a gap in read_nsys; or too small a batch; or a GPU kernel with uncoalesced access, which needs Nsight Compute.
#
# ### BEGIN MARK SCHEME
# - 1 point: counts, with a function and a threshold. Half: times with a defence against noise (ratios, quiet machine, median).
# - 1 point: their own factor from insight 1 and a way of sampling that keeps it away from the measured time. Half: one of the two.
# - 1 point: something diagnose() really cannot see, with evidence that would show it. Half: without evidence.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# | you built | it answers |
# |---|---|
# | `record` | what ran, after the warm-up, step by step |
# | `summarize` | whose time is it? |
# | `shares` | which phase, and when does nobody work? |
# | `diagnose` | which of six known bottlenecks, with what evidence? |
# | `fast_prepare`, `Fast`, `fast_train` | the same results without them |
# | `predicted_speedup` | is it worth it? |
# | `read_nsys` | the same on a GPU |

# %%
if slow_events and slow_found:
    print(f"the patient: {len(slow_events) / 3:.0f} events for each step; found: {', '.join(slow_found)}")
if stairs:
    print(f"a step by the clock: {times['slow']:.2f} ms before, {times['+ training']:.2f} ms after")

# %% [markdown]
# ## Challenge (optional)
#
# - **The flame graph.** Write a trace's own times as *folded stacks* (`step;forward;linear 25`) and draw them as nested bars.
# - **Another finding.** Add "many small batches" to `diagnose`: what is its evidence, and how do you keep it from naming healthy loops?
# - **Stacks.** `profile(with_stack=True)` records the Python lines. Which line of the patient owns most operators?
# - **Workers.** Put `slow_prepare` into a `DataLoader` with two workers. What does `shares` say now, and what does the clock?
#
# ## Further reading
#
# - G. M. Amdahl, *Validity of the single processor approach to achieving large scale computing capabilities* (AFIPS, 1967): four pages.
# - T. Hoefler and R. Belli, *Scientific Benchmarking of Parallel Computing Systems* (SC 2015): how to say how fast something is.
# - B. Gregg, *The Flame Graph* (ACM Queue 14(2), 2016): the picture that made own time famous.
# - NVIDIA, *Nsight Systems User Guide*: the command line, and the schema of the SQLite export.
#
# ## Clean up

# %%
import shutil

plt.close("all")
shutil.rmtree(scratch("x").parent, ignore_errors=True)
print("Done. Next: lab 1.3.6, a histogram in which everybody wants to write to the same place.")
