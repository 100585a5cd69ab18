// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/nccl/library.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/transport/nccl/functions.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

std::string fake(const std::string& name) {
  return std::string(FAKE_NCCL_FOLDER) + "/libfake_nccl_" + name + ".so";
}

std::string refusal(const std::string& name) {
  const auto library = NcclLibrary::load(name);
  EXPECT_EQ(library.status().code(), RESHARD_ERR_NOT_SUPPORTED);
  return library.status().message();
}

TEST(NcclLibraryTest, WhatWasFoundIsNamedWithItsVersionAndItsPath) {
  const auto library = NcclLibrary::load(fake("whole"));
  ASSERT_TRUE(library.ok()) << library.status().message();
  EXPECT_EQ((*library)->version(), 23002);
  EXPECT_EQ((*library)->path(), fake("whole"));
  EXPECT_EQ((*library)->text(), "NCCL 2.30.2 (" + fake("whole") + ")");
  EXPECT_TRUE((*library)->has_revoke());
  EXPECT_TRUE((*library)->features().carries_rounds);
  EXPECT_TRUE((*library)->features().shares_devices);
}

TEST(NcclLibraryTest, ALibraryIsLoadedOnceAndStays) {
  const auto first = NcclLibrary::load(fake("whole"));
  const auto second = NcclLibrary::load(fake("whole"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->get(), second->get());
  EXPECT_NE(dlopen(fake("whole").c_str(), RTLD_NOW | RTLD_NOLOAD), nullptr);
}

TEST(NcclLibraryTest, ALibraryThatIsNotThereIsNamedWithWhatIsNeeded) {
  EXPECT_THAT(
      refusal("libnccl_of_nobody.so.7"),
      AllOf(HasSubstr("NCCL was not found"), HasSubstr("libnccl_of_nobody.so.7"), HasSubstr("2.28.0 or newer")));
}

TEST(NcclLibraryTest, AFileThatIsNoNcclIsNamed) {
  EXPECT_THAT(refusal("libm.so.6"), AllOf(HasSubstr("libm.so.6"), HasSubstr("it is no NCCL")));
}

TEST(NcclLibraryTest, AnOldLibraryIsRefusedWithBothVersionsBeforeItsFunctionsAreAskedFor) {
  EXPECT_THAT(refusal(fake("old")), ContainsRegex("NCCL 2\\.27\\.7 \\(.*libfake_nccl_old.so\\) is too old; "
                                                  "NCCL 2\\.28\\.0 or newer is needed"));
}

TEST(NcclLibraryTest, ALibraryThatLacksAFunctionIsRefusedByItsName) {
  EXPECT_THAT(refusal(fake("partial")), ContainsRegex("NCCL 2\\.28\\.9 \\(.*partial.so\\) has no ncclSend"));
}

TEST(NcclLibraryTest, WhatWasRefusedIsNotKept) {
  (void)refusal(fake("old"));
  EXPECT_EQ(dlopen(fake("old").c_str(), RTLD_NOW | RTLD_NOLOAD), nullptr);
}

TEST(NcclLibraryTest, TheFirstVersionsHaveNoRevokeAndAreTakenAllTheSame) {
  const auto library = NcclLibrary::load(fake("first"));
  ASSERT_TRUE(library.ok()) << library.status().message();
  EXPECT_FALSE((*library)->has_revoke());
  EXPECT_EQ((*library)->version(), 22800);
}

TEST(NcclLibraryTest, AGivenCommunicatorMustBeOfTheLibraryThatTheProcessHas) {
  const auto whole = NcclLibrary::load(fake("whole"));
  ASSERT_TRUE(whole.ok());
  // This one calls itself libnccl.so.2, as a framework's does, under whatever path it lies.
  void* frameworks = dlopen(fake("framework").c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(frameworks, nullptr) << dlerror();
  const Status other = (*whole)->check_is_the_loaded_one();
  EXPECT_EQ(other.code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(other.message(), AllOf(HasSubstr(fake("framework")), HasSubstr(fake("whole"))));
  // The name alone finds it.
  const auto same = NcclLibrary::load("");
  ASSERT_TRUE(same.ok()) << same.status().message();
  EXPECT_EQ((*same)->path(), fake("framework"));
  EXPECT_TRUE((*same)->check_is_the_loaded_one().ok());
}

}  // namespace
}  // namespace reshard
