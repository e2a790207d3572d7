"""Configuration: one TOML file to typed settings.

    [stores.local]
    path = "/srv/backup"
    verify-new = true
    keep-daily = 7

`toml_source` reads the file and reports mistakes with file, line and a suggestion; `stores` knows
what a store may say of itself; `settings` is the whole file; `edit` changes it and keeps comments.
"""
