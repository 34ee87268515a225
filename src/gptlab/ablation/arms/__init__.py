"""Which arms a study has, once they are composed: none twice, under one name or two."""
