"""python -m hornbeam_erlang APP [flags]: the command `hornbeam`, by this interpreter."""

from hornbeam_erlang._command import main

if __name__ == "__main__":
    main()
