/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "objstore/base/base.h"
