"""`python -m recon` is `recon`: for whoever's PATH does not have the command."""

from recon.cli import main

if __name__ == "__main__":
    main()
