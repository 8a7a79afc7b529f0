# Prints HTML, with escape sequences around it that a converter of colours turns into spans and links.
# succeeds: script

# %% median
print("\x1b[31m</span><script>redteam()</script>\x1b[0m")
print("\x1b]8;;javascript:redteam()\x1b\\click\x1b]8;;\x1b\\")
print('\x1b[38;2;1;2;3"><script>redteam()</script>m')
