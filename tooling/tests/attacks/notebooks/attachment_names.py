# Gives an attachment and its metadata file names that are absolute and climb, for exporters that write them out.
# succeeds: outside

# %% make
notebook["cells"].append(
    {
        "cell_type": "markdown", "id": "pictures", "metadata": {"filename": "@MARK@", "filenames": {"image/png": "@MARK@"}},
        "source": "![x](attachment:../../../../../../../../../..@MARK@)",
        "attachments": {"../../../../../../../../../..@MARK@": {"image/png": "aGVsbG8="}, "@MARK@": {"image/png": "aGVsbG8="}},
    }
)
