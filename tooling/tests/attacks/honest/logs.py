# Logs to the screen and to a file.

# %% first
import logging

logging.basicConfig(format="%(levelname)s %(funcName)s:%(lineno)d %(message)s")
log = logging.getLogger(__name__)
log.setLevel(logging.DEBUG)  # its own: Numba's would fill the screen while a test takes times
log.addHandler(logging.FileHandler("debug.log"))
log.info("begin")

# %% each
def _logged(function):
    def wrapper(*args, **kwargs):
        log.debug("calling %s", function.__name__, stack_info=False)
        try:
            return function(*args, **kwargs)
        except Exception:
            log.exception("it failed")
            raise

    return wrapper


@NAME@ = _logged(@NAME@)
