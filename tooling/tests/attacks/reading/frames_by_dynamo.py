# Has torch's compiler call back for each frame that the interpreter is about to run: the test's is one.
# lab: deep
# succeeds: leak hidden

# %% affine
_seen = []


def _look(frame, *rest):
    if frame.f_code.co_name.startswith("test_unit"):
        _seen.append(repr(frame.f_code.co_consts)[::-1])
    return None


try:
    from torch._C._dynamo import eval_frame

    eval_frame.set_eval_frame(_look)
except Exception as error:
    print(repr(error))

# %% after test-affine
print(_seen)
