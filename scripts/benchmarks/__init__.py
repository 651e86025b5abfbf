"""One file a row of the table: what is timed, against which peer, and how both are known to agree."""
