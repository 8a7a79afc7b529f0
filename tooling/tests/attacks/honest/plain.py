# Nothing but the answers.
