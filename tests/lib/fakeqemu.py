#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that `snapfs revert` takes for QEMU:

    fakeqemu.py PLAY ... -qmp unix:PATH,... ...

PLAY is a JSON file. `states` are what query-status answers, one after the other; the last one
stays. `answers` has what other commands return, by their name; a query that has one answer for
each argument has a dictionary by the argument's JSON. What it was asked is appended to PLAY.log,
a line of JSON each.
"""
import json
import os
import socket
import sys

# Without it, a command line would have to name python.
if __name__ == '__main__':
    play = sys.argv[1]
    with open(play) as file:
        script = json.load(file)
    path = sys.argv[sys.argv.index('-qmp') + 1].removeprefix('unix:').split(',')[0]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    peer = listener.accept()[0]
    states = list(script.get('states', ['running']))
    answers = {'query-migrate': {'status': 'none'}, **script.get('answers', {})}
    version = {'qemu': {'major': 10, 'minor': 0, 'micro': 2}, 'package': ''}
    peer.sendall(json.dumps({'QMP': {'version': version, 'capabilities': []}}).encode() + b'\n')
    for line in peer.makefile('rb'):
        asked = json.loads(line)
        name, arguments = asked['execute'], asked.get('arguments', {})
        with open(play + '.log', 'a') as log:
            log.write(json.dumps([name, arguments]) + '\n')
        value = answers.get(name, {})
        if name == 'query-status':
            value = {'status': states.pop(0) if len(states) > 1 else states[0]}
        elif name == 'migrate-incoming':
            answers['query-migrate'] = script.get('loaded', {'status': 'completed'})
        elif isinstance(value, dict) and 'of' in value:
            value = value['of'].get(json.dumps(arguments, sort_keys=True))
        answer = {'return': value, 'id': asked['id']}
        if value is None:
            answer = {'error': {'class': 'GenericError', 'desc': 'no such thing'},
                      'id': asked['id']}
        peer.sendall(json.dumps(answer).encode() + b'\n')
    os._exit(0)
