// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Nothing: the targets made of it own headers that are parsed once for many others.
