// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/descriptor_server.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

namespace reshard {
namespace {

OwnedDescriptor file_with(char text) {
  OwnedDescriptor file(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(pwrite(file.number(), &text, 1, 0), 1);
  return file;
}

char text_in(const OwnedDescriptor& file) {
  char text = 0;
  return pread(file.number(), &text, 1, 0) == 1 ? text : '?';
}

TEST(DescriptorServerTest, GivesEachFileToWhoAsksForItsNumber) {
  const auto server = DescriptorServer::start();
  ASSERT_TRUE(server.ok()) << server.status().message();
  const std::int64_t first = (*server)->offer(file_with('a'));
  const std::int64_t second = (*server)->offer(file_with('b'));
  for (int count = 0; count < 3; ++count) {
    EXPECT_EQ(text_in(fetch_descriptor((*server)->name(), second)), 'b');
    EXPECT_EQ(text_in(fetch_descriptor((*server)->name(), first)), 'a');
  }
}

TEST(DescriptorServerTest, ManyAskAtOnce) {
  const auto server = DescriptorServer::start();
  ASSERT_TRUE(server.ok());
  std::vector<std::thread> threads;
  for (int index = 0; index < 8; ++index) {
    threads.emplace_back([&server, index] {
      const char text = static_cast<char>('a' + index);
      const std::int64_t number = (*server)->offer(file_with(text));
      for (int count = 0; count < 20; ++count) {
        EXPECT_EQ(text_in(fetch_descriptor((*server)->name(), number)), text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(DescriptorServerTest, WhatIsNotOfferedIsNotToBeHad) {
  auto server = DescriptorServer::start();
  ASSERT_TRUE(server.ok());
  const std::string name = (*server)->name();
  EXPECT_EQ(name.size(), 32U);
  EXPECT_FALSE(fetch_descriptor(name, 0).is_open());
  const std::int64_t number = (*server)->offer(file_with('a'));
  (*server)->withdraw(number);
  EXPECT_FALSE(fetch_descriptor(name, number).is_open());
  EXPECT_NE((*server)->offer(file_with('b')), number) << "an old key would get it";
  EXPECT_FALSE(fetch_descriptor("nobody", 0).is_open());
  EXPECT_FALSE(fetch_descriptor(std::string(200, 'x'), 0).is_open()) << "names come from keys of others";
  server.take().reset();
  EXPECT_FALSE(fetch_descriptor(name, number).is_open());
}

}  // namespace
}  // namespace reshard
