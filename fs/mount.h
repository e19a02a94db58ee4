/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_MOUNT_H
#define LSVD_MOUNT_H
#endif
