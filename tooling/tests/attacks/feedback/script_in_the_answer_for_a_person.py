# Writes a script into the answer that a TA reads in the formgrader.
# succeeds: script

# %% reflect
Because of this:

<script>redteam()</script><a href="java&#115;cript:redteam()">sources</a><form action="https://redteam.invalid"><button>ok</button></form>
