"""Arms of a study, once they are composed: none twice, under one name or two."""
