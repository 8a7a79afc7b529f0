# Threads that are joined where they are started, and pools.

# %% first
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

_lock, _results = threading.Lock(), queue.Queue()


def work(k):
    with _lock:
        _results.put(k * k)


_threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for _thread in _threads:
    _thread.start()
for _thread in _threads:
    _thread.join()
print(sorted(_results.get() for _ in range(4)), threading.active_count() > 0)

# %% each
def _in_a_thread(function):
    def wrapper(*args):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function, *args).result()

    return wrapper


@NAME@ = _in_a_thread(@NAME@)
