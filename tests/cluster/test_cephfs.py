#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A store on a CephFS that two hosts mount."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from clustercase import Shared
import harness
from dying import Dying  # noqa: F401
from guests import Guests  # noqa: F401
from sharing import Layers, Sharing  # noqa: F401
from waiting import Waiting, WaitingGuests  # noqa: F401


if __name__ == '__main__':
    # A CephFS without a cluster hangs whoever looks at it.
    harness.main_with(Shared.end)
