"""The errors that the commands report in one sentence, because the user can fix their cause."""

from server.errors import PromptIRServeError
from server.settings import SettingsError

USER_ERRORS = (SettingsError, PromptIRServeError, OSError)
