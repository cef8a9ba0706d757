# SPDX-License-Identifier: GPL-2.0-or-later
"""The product inside a guest that has KVM: its own guests then run on real KVM, on the SVM that QEMU emulates."""
