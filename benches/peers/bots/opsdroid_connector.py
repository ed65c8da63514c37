"""opsdroid's own connector with its schema mended: 0.31.0 puts a function where the address was given."""
import opsdroid.connector.rocketchat as theirs

CONFIG_SCHEMA = {**theirs.CONFIG_SCHEMA, "channel-url": str}


class RocketChat(theirs.RocketChat):
    pass
