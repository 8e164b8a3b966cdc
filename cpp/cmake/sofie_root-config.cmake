# find_package(sofie_root CONFIG REQUIRED) gives the target sofie_root::sofie_root: the headers that a
# generated header includes when it is not standalone, and SofieFunctor.hxx.
#
#   cmake -Dsofie_root_DIR=$(sofie-root config --cmake) ..
#   target_link_libraries(analysis PRIVATE sofie_root::sofie_root)
#
# Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
cmake_minimum_required(VERSION 3.11)

get_filename_component(sofie_root_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
if(NOT EXISTS "${sofie_root_INCLUDE_DIR}/sofie/SofieFunctor.hxx")
  set(sofie_root_FOUND FALSE)
  set(sofie_root_NOT_FOUND_MESSAGE
      "no headers in ${sofie_root_INCLUDE_DIR}/sofie; install sofie_root again")
  return()
endif()

if(NOT TARGET sofie_root::sofie_root)
  add_library(sofie_root::sofie_root INTERFACE IMPORTED)
  set_target_properties(sofie_root::sofie_root PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${sofie_root_INCLUDE_DIR}"
    INTERFACE_COMPILE_FEATURES cxx_std_17)
endif()
