"""Say something in a room of the running server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from chat.views import say


class Command(BaseCommand):
    """Say something in a room: it reaches all who are there."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the room and the text."""
        parser.add_argument("room")
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say it."""
        say(options["room"], "manage.py", options["text"])
