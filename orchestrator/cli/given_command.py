"""The command that the user gave, to be shown for repetition."""

import shlex

import click
from click.core import ParameterSource


def given_command(context: click.Context) -> str:
    """Return the command line of a context, with the arguments and options that were given."""
    words = context.command_path.split()
    options = []
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = max(parameter.opts, key=len)
            if value is True:
                options.append(option)
            elif isinstance(value, tuple):
                options += [word for one in value for word in (option, str(one))]
            else:
                options += [option, str(value)]
    return shlex.join([*words, *options])
