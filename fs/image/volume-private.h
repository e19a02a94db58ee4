/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_IMAGE_VOLUME_PRIVATE_H
#define LSVD_IMAGE_VOLUME_PRIVATE_H
#endif
