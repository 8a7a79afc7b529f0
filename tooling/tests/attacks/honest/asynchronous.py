# Awaits at the top level, and uses the running loop.

# %% first
import asyncio


async def later(value):
    await asyncio.sleep(0.001)
    return value


print(await asyncio.gather(later(1), later(2)))
_task = asyncio.create_task(later(3))
print(await _task)
