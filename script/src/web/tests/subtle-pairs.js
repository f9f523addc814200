// Answers of other implementations over the same keys and data: what is calculated here must come to the same.
const rsa = {
  "rsa pkcs8": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC1TzoLj1zjWgFiR1Y1iXH963-AguYIliQPVmHn-61bh9dHg0VxyaSsvP-GuPUJQExZqu9COTElOhafqchdtb5LIOd6i_KDTz8GnGXYKCWa8-pbloYSRsvR1LTcQL5STVbP1EkdcT_EE1aRcMdwks-BKt7ZxqrtT92exHa60PecmN3pdJu5smLRdmeQ4VUhRdIETYM-vOJuUMROTHJ4GE2Au663Zbjr_EBwH1gumHESJxGE_HN6tnNJEhu8nS_ghtQsg-i59fH2tY_xIoEKmJYdSVm_Iw7jO0MiWbItlosIB58-vO7gtMOURWI4ejY5c78qXHNp0RzOSkhsGAynoGdhAgMBAAECggEABn6-1dSuL2_VPlvPXQ4eMQo7cFNgIb0dMBZ4XergcDe60NNFTNj8JvsDTWR5VLpCsfCjbxQk7FA7KL-Yj7DXzxGv8S4rwyP23koChP6VMEqeIedPyL5UBWGRFBXWq5SdMEdK0jzxG5lUv9OSNXhw6g_q2VLaYzN5_TrNBQ7A3BF3aznl_VpyT0PHSbaVKCdM3s3VRtp8Y8uVHtWW_zhivzUqXh6LuuyZImr8kDvMxTuJElf8J_cio55Zj9-1HQubIzb5_6ztVQLmrHnnpQYmWwUbfTATiMa4bGk5m-ICVwMuHIqWALtaUTWhniFm9p-YsrnepenmYNFmiFUAiBZiNQKBgQDb8vJ5EH0qFr8B6TESyp_9kStjJVtS5zEZaIwdqY6RuRRL3-DmD9MwLJov78Zeos3x5UCsX87DJSyh5jMjwrGHX_w8nsA0DLAxTY_T6H-VhI9Uid6vmks_gaUWXXojmOXyFRa4dnwh8IoYk1ftv7P1Un13SDa69s2jdDNUSoC_3QKBgQDTBvdUmfL9K5BT2uWtCULKiv2ycEH-gB7w1Cw-zSIfDRhREICBduhearUANBhSKmaxc57T10ucwgGkqoX2ja9VfLoigf0fKGTeeaNmnnQebYz1VnZ6uYV8rPvPWaAgxgHno4j8IBbgxGwPsE7zxojS_qeiHVhhfaleChJ6QWHPVQKBgBRZ9nWdQPeUAzh6C0Bh30vnEsypuDmDitd_BPf5qGdzaJ1cqcKf1Dqw5dNprEE1bzjirYlFlCwaVHbmhfTZHvQXvY8eYUpvoh3tv1EsQiHjkh-QYjp9XFkT9eKL47FHhH9R1DhdPj8lsqFzgL9O7afVaiaPWAEUtRJaviUef6tBAoGBAINBcvcZJk0YGpY9sdu1xehrGS8yqamdkSEkJz0MpGuB3p0VUYi1KAUKA_jTbkk0_FjlXGXRJMOk3BbKxbY8HFFk2fV6urD1k__Y0qySZBFE_Ibgt6LP39pTUfB_g5y-7BJi4mJHp1M4eSos9H6l_xaVtDieXgmNepn2U9Xc8vRdAoGAafbEGi3vSATAbCcXflw151ti9-npkazmuIvYTYCJvbNarMwceRHQ1WJtlCUW7i6LNbr6Xw-Dm5vBjP59wUcWoheKSheZZW0x5td0XT_I5FBJQ-XIgJenyQ8XDSrKtK8_lyBRE-KeQfT1GRLMOVk4D5bc16KimcZD5LNuge4WwXU",
  "rsa spki": "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtU86C49c41oBYkdWNYlx_et_gILmCJYkD1Zh5_utW4fXR4NFccmkrLz_hrj1CUBMWarvQjkxJToWn6nIXbW-SyDneovyg08_Bpxl2CglmvPqW5aGEkbL0dS03EC-Uk1Wz9RJHXE_xBNWkXDHcJLPgSre2caq7U_dnsR2utD3nJjd6XSbubJi0XZnkOFVIUXSBE2DPrziblDETkxyeBhNgLuut2W46_xAcB9YLphxEicRhPxzerZzSRIbvJ0v4IbULIPoufXx9rWP8SKBCpiWHUlZvyMO4ztDIlmyLZaLCAefPrzu4LTDlEViOHo2OXO_KlxzadEczkpIbBgMp6BnYQIDAQAB",
  "rsa jwk": {"kty": "RSA", "n": "tU86C49c41oBYkdWNYlx_et_gILmCJYkD1Zh5_utW4fXR4NFccmkrLz_hrj1CUBMWarvQjkxJToWn6nIXbW-SyDneovyg08_Bpxl2CglmvPqW5aGEkbL0dS03EC-Uk1Wz9RJHXE_xBNWkXDHcJLPgSre2caq7U_dnsR2utD3nJjd6XSbubJi0XZnkOFVIUXSBE2DPrziblDETkxyeBhNgLuut2W46_xAcB9YLphxEicRhPxzerZzSRIbvJ0v4IbULIPoufXx9rWP8SKBCpiWHUlZvyMO4ztDIlmyLZaLCAefPrzu4LTDlEViOHo2OXO_KlxzadEczkpIbBgMp6BnYQ", "e": "AQAB", "d": "Bn6-1dSuL2_VPlvPXQ4eMQo7cFNgIb0dMBZ4XergcDe60NNFTNj8JvsDTWR5VLpCsfCjbxQk7FA7KL-Yj7DXzxGv8S4rwyP23koChP6VMEqeIedPyL5UBWGRFBXWq5SdMEdK0jzxG5lUv9OSNXhw6g_q2VLaYzN5_TrNBQ7A3BF3aznl_VpyT0PHSbaVKCdM3s3VRtp8Y8uVHtWW_zhivzUqXh6LuuyZImr8kDvMxTuJElf8J_cio55Zj9-1HQubIzb5_6ztVQLmrHnnpQYmWwUbfTATiMa4bGk5m-ICVwMuHIqWALtaUTWhniFm9p-YsrnepenmYNFmiFUAiBZiNQ", "p": "2_LyeRB9Kha_AekxEsqf_ZErYyVbUucxGWiMHamOkbkUS9_g5g_TMCyaL-_GXqLN8eVArF_OwyUsoeYzI8Kxh1_8PJ7ANAywMU2P0-h_lYSPVIner5pLP4GlFl16I5jl8hUWuHZ8IfCKGJNX7b-z9VJ9d0g2uvbNo3QzVEqAv90", "q": "0wb3VJny_SuQU9rlrQlCyor9snBB_oAe8NQsPs0iHw0YURCAgXboXmq1ADQYUipmsXOe09dLnMIBpKqF9o2vVXy6IoH9Hyhk3nmjZp50Hm2M9VZ2ermFfKz7z1mgIMYB56OI_CAW4MRsD7BO88aI0v6noh1YYX2pXgoSekFhz1U", "dp": "FFn2dZ1A95QDOHoLQGHfS-cSzKm4OYOK138E9_moZ3NonVypwp_UOrDl02msQTVvOOKtiUWULBpUduaF9Nke9Be9jx5hSm-iHe2_USxCIeOSH5BiOn1cWRP14ovjsUeEf1HUOF0-PyWyoXOAv07tp9VqJo9YARS1Elq-JR5_q0E", "dq": "g0Fy9xkmTRgalj2x27XF6GsZLzKpqZ2RISQnPQyka4HenRVRiLUoBQoD-NNuSTT8WOVcZdEkw6TcFsrFtjwcUWTZ9Xq6sPWT_9jSrJJkEUT8huC3os_f2lNR8H-DnL7sEmLiYkenUzh5Kiz0fqX_FpW0OJ5eCY16mfZT1dzy9F0", "qi": "afbEGi3vSATAbCcXflw151ti9-npkazmuIvYTYCJvbNarMwceRHQ1WJtlCUW7i6LNbr6Xw-Dm5vBjP59wUcWoheKSheZZW0x5td0XT_I5FBJQ-XIgJenyQ8XDSrKtK8_lyBRE-KeQfT1GRLMOVk4D5bc16KimcZD5LNuge4WwXU"},
  "pkcs1 SHA-1": "gZnuB6civhZRutpWtMy9ugniPbbzq88L5d6_xTQlsyY6ohssDdUlF0IuUF8PNKcUn8WMwEj6zEuo_fHVpP_0WHS7agcxQOsozP3U58m0a9K_rnyz0W8EEO0LXjv-iTdVKu3SA-TudsKOr2XUUIdA1J1abtkQIxv996PjWIBl9yn_FFb9EtmpjabAK9ja-ROG203tcOdqFcgVzmvWpgW2LXftCksDgd2aIZf3U_nTlHprbFF00ga5d71XpdUAnOESokCJ5WtGfmXvDwKQHUgSqNe-mCLpMX6U8DxnbAwrYDufREBjCf7xsD3lPaM5V3wSHx82PnKNHTDhaHd-GbVUow",
  "pss SHA-1": "G3kxGyvov1t5hEZMO1lEKeSzmSnKPHu-Tv-qhD6Mi-uC1jwxb3vPS9Z_FeIyL8yk7LJ_LpMVtNnMEnlYfpy9rXhznnzYR2rxsDTsSgfOu1QhB1tTgf-bWzdyNr-M8VjZBgMRYpjTZs5nEaP3pnhgumP3pDDErWPqKY6v01cDtRIaaMoZmnH3NIF7V8GMJswJ758zyn3WD9GaER6lJrQOvWAEHgdIbDrVIaVDF_aR1u_SyjOW9ED43X7uynPxCj9u7VB0eAQje9xkD7Y_O-QFN3OsANN836eJUUpC4qyIVbsFTPxfrlZwVyl4KlqinHaS0UmSOV4Q57lF16AtvMWMNg",
  "oaep SHA-1": "sdczVftKxfpixTNSOQr0Xp6H-uqiD0b5Yoyo2_KbnFUrnviyoCZRJnvijoHbHR9BSAUZPQvZgWGYvQKMsUj-0-_XbranbIai8-0tE4BfrkRjGqVD-Y3p9k0o1oFAPiz3sYBAfPGRcKh4m7stpgdqHBsQ2_D2vhyuEjCJLSsuy8AeAr_CRmsSkU9U_zpsaLaVbSiQ6jTg3dlV_08leZZrx10nBVzSkcOsCOSa1cQwPF5Gi5x56MCKmgkD5Taxkw9JaH87O9ddrRmhk6kEot-P0ug_qrETsD_Q10i8aI2J_SMz0_cHgYCG25i1FOcKHmdDpaHoVNIQljYhqBNJ2FhDDQ",
  "pkcs1 SHA-256": "WkSVL9jJlodPGtqaCZ_vW1v0qz4JVyDs9K65VpKVcdCAfYsu4r5916ku-F-bXDRKo8tPtuwykKTH_3X0I0OT8s3SGYRGizt4rX0qwlJ2QnOFhs6i-AXxZog3lABdnLNeuo8ih1Jr_yHrFcj77T47DEfB0z20v53xC3Tj1DErfALi1yNVHItmzXrLcB2lQ9c89fcMkE3LDh5wWG5DgmLW0czET47Sc8OPFdkWYwI36To4O2WA_sda5UZHm-90kXppQzJ5aLze7-G45T18ia5cgU5fKnjb2RH4IUevJ98FKgQoVyGSoLXzQBa0mMOb_W8rUkTcl7CrENnd92XmG-sLLg",
  "pss SHA-256": "myCiLp9sRoZtgcc-FsP9mMJCKm9HIsL2P82RmkBx3pHskjCMcC1_XAe1I-az6E2ktG_dcWWiEOFPlFf8wkpOkiXltgDzz_pKCcFE-Nw-1pAHGNjf-5xQUQTcpG49_-fSnWs5kfxXVTiP5qg-zrzX601NiPyvR3ibdE1cPPrlD86qb9jOsmgox6FTCbXjK_GXHJutMVsC2bOXUBpboP0b4qSn6ScoxFRcXeBOoWqh_QqOblc9azPFiTvm0HIJQMK2xfMi-LKwFD84P8vF59kEinXmvovlNMwVZ6cQTRdWges6bNTl0dRYqevCuWxyi6cbkZdGiKIRWqA4QlKfD49NwQ",
  "oaep SHA-256": "mH1IGUeTv2ZYC9_hWe8oX9Lk7rkRI2Pk_COOgbrkXJRHJnzxk1TLoDhimrtNAx2PfyeS43jAikXUWDo6y3i-NdKAr7i-e72fcqiqwBv1xdQdTFby-eIRJZVhFv9g_BLXx2mJe3P-un2mEr7naPa4I_DRGtZZnCJw_pPkeaselr1HWaGhayTj8YfQwZ4GyWIR3H7x6xI9K5zSaLXWrA8m8j3nFy_pocDq1VDj3_IrswEs9LN68QeszJe_Aqd2DdzBzwuSBFWlwKbqHxQ2W89G7ds69NP_dS0THYSXPirG9onra6AVfP1wwptKmEZrqTk9_S-s5hmImjuzDKWpaNC7EQ",
  "pkcs1 SHA-384": "hRCJVAaolBOG1Kmpr74lv1otLvMnO7hvf3kP_BYL_c2tdtWzrhl5OtQrf_9zmhJ5m7CIVyiKNHJooMlqeNDubFjKy1xfRAeNa0_Kiiob5cO7FAT4_T-lnvP0Hmb8FxLm9PNRWzU0caUKfVGZDiVLv9MmbcOdJEE9MYlHKaXx0H_B63jKiKoqgGuScG--TVW3CBfs3Tn28xEWechCTtdIyUolCBHRjnYW_WpxwA4iX-Cuyven3shKsuxAa0DgH3PLqGrPp050iAGj3V4bwdwHyOnB0f3lyeianVDmPqLB8OH5h3mcWKNvrXMCd5leBb0pOf_nfDyNQFnMi5JhqI8E6A",
  "pss SHA-384": "Nx72xzThvWlIKEzgwFcTv1BMB00n0h-RwYFBVpd_A-ISdo0aNKhBgf7ms5-HFltW6HJaohtaJottfX1txJXnFMYGwMfJeQ5otaFTCl2PmiczrnfsyUqejbdJK5ujVO8oxHREgp8idg2nPJ4Tie99K_mLydJbq3lFmspZrzN9lM8epZ3KDM_reGDRX26R_Gyc8AuSO_UfuWMSW3rNbWtcqqIefYzaOqbcdycR-B8_lVvrH2j4tK3JZSC222qIvfiPbe2p8XZa2wHbNtoxg5XYCJPIV6n3GbrBji8bkgjIPkEj8n_99zTISIx2pjTRv1DoRC0A7nI88RVhuP-mBIo8xw",
  "oaep SHA-384": "DQhQ36a78_-knf-4fgdhHQwNllNSc5HDoX0PcylYeKtuPVkF-aiNK85OAbFnVIJUscmxwsw27NqijzDUyONET6z9E-3mhKuv7mEmBVGwFT2-tNwMVggGeKDRJvqwl_xLFnT_eJamtcKf2w6cvCBN7I08DDMfvnuuQ5ZE6_Zyxlx0kFrkYz7FGpdKZxhEOqWcuZ9L5JpnhN7O7StKHRgM1fSKo--VwbYp8zncNeGMIIsx5V4deV6WKOWL5eINGX9rYY5zlQY0CPZT-8jikEYnbKYSSA6LXnMmBXhNM96IEPEmmle61tPgKFcqccMMf1Ag0KNmDYxPPbkgm-_ESJdAhQ",
  "pkcs1 SHA-512": "mNchFuB56gCJ5r5YWpEHPdRufagUbYr-4yO-2fMWOy991AkBCcSlEHrEMEODzJ0_mKCbAB80WiZJ7jy-YD_4HwZ-1o-z8AvJnBTYWQClb98_Sy1w9x__w7Wkb6oWGwXxjSwk9F2lUsXAyOZdNxbrf7zQwv2xhvIq6oAIpGITWYe772TG8QsuhLngVLGID9DoYpa9Z-VLunC3MN1-DpyS1RhCyY31Afo_PdzeERIOo34yhIYltkaI68xs4qfgpwacHaI2S80VNxA5IoBEIj-5rGqezyXKN9XD7q-fyAJeYEzraHec_z8lT6_uLkKxOO8yBxAneYuoFTOC8iun88_YFg",
  "pss SHA-512": "hYWB8rtl7UAtnkXcsEEEU4Dz3A_d94f0BfEq0lvkzCKJihvcp_QYBUWqT0KFyF95A_hC4GeyOGbttK2gLUw-lcSsdCVC9Zr1GcDDpZuNrDSbM-LBuhLvv1Z3DB5zpBtQGIzK1wMDNg25lKcY49wNsFUBiqL26sIx9dLKCdbzbNLTEhpksRNS_wK5qsSuYvjiQZui1qIDFebinMa25-G7cY9O8hvHVlnFDPfwGrQabA3m-_XJXbxZIDu9MbjBbL-aLOzaVhTYiNs1uocguIBksVY6hSzoyAuPVBZV6PD6bCRQ3dCmnoJqcMSrBamh4tVv4Hx2HMjXL3Y3OPPcdqjSBA",
  "oaep SHA-512": "mK7Hnbnnk4xbABZMTu6Iv_arbSi2iy_zLW1NLBrA-4eCvEAu7nWNokHYLl1QKywy-bqD3kEFXxitkwuZdQs_D5Q5Sn6nrdiGKrHoGtl-UGjdYS_EHel7eitsozCvlrwsrBghjra5VuTOFKzaBCmcmQHmIPdHw4na1P3CHEK4twaDf44869t-6wVbYYPu5c78xcmNT_bQNTGTOupSCmMJaDv9d_nz7-pFKCc-7xW-hDOh8oqWk6LkhQvmIqcAFeHlaItkYpohFJOy1TnbmeU05hzA9YF2BD3SyuVYTu7UkApBiJwfOw9Qln5c1R9mqZMKhXTQwowIS27MK2-GKOqI0A",
};
const pairs = {
  "P-256": {"pkcs8": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgysBcVoSKK_xtLtnQj_sYYWKGH6AHZDdYqsR_QL9G7D6hRANCAAQU2ybTH6O-Nujfh21Y7yRREtkhV4eWeF1mE9DFo6GfZIzMUjZzcLmBXgqk9GblOSGthcSrRFOuGjQrpwWPNrDg", "spki": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNsm0x-jvjbo34dtWO8kURLZIVeHlnhdZhPQxaOhn2SMzFI2c3C5gV4KpPRm5TkhrYXEq0RTrho0K6cFjzaw4A", "raw": "BBTbJtMfo7426N-HbVjvJFES2SFXh5Z4XWYT0MWjoZ9kjMxSNnNwuYFeCqT0ZuU5Ia2FxKtEU64aNCunBY82sOA", "x": "FNsm0x-jvjbo34dtWO8kURLZIVeHlnhdZhPQxaOhn2Q", "y": "jMxSNnNwuYFeCqT0ZuU5Ia2FxKtEU64aNCunBY82sOA", "d": "ysBcVoSKK_xtLtnQj_sYYWKGH6AHZDdYqsR_QL9G7D4", "other": "BEztCdQDt06C8rfwodwXiFVFbY5kk8txL44TLpaxd2f9Ap8QXZS3n8_UBp0Cd2EiCfO-sfloKacehsiicPE6CjE", "shared": "097bf78cbd9065258dfc3982b2968fcdd4a937b0956e8061b951dfb23e0ece4e", "SHA-1": "kIxOtZlBZbyN8Hc-UrsCHs9phyfwFVP5Xq4QssNcaj2U6cuYWsZRX9ywwopGUrjlKCW3Q427AJ7x2Y6hwjvphA", "SHA-256": "Thy0xF2nYukOpnQTVfmXQnR6fOM2sVVQzFyzoDOntAjAoAZfvq6x3ujV5dus_ZmMGy4avMCSNgzNrH7pPNNVAA", "SHA-384": "OGtP0ZKt1PlJoxnXX4vElH_2NDSYdBUrpKudF5BSehjbGPm38t0B675-my5Skk9QhqmW0Da9ZgMfxgU2CE2a3Q", "SHA-512": "5PX0R9pkAQ5bRXuyru4tA0vBLepHBRVTWnN8W8WmI8I4MGsqFSWPd-Y0QXyUOpUwbwuAp_wYtg-nPw9P1JiuFQ"},
  "P-384": {"pkcs8": "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBcSnpf8-seLoHuz77l8JKno5DJyS-Y1fH7--MSd4XKDodCOVTfFisrs9gtZcbO7kKhZANiAAQpJWtvOE2aB53MD5U6-1Ch7atKxnDKux5Qcv1psi3B9aHH1yXjuGdpYISSgXzrNt9KwUl_J5zS-sw8Kud2_Nz6LgBgynNRzc_yg5GNTQ97FkIzP7VPls_5WIRLB5RCvQQ", "spki": "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEKSVrbzhNmgedzA-VOvtQoe2rSsZwyrseUHL9abItwfWhx9cl47hnaWCEkoF86zbfSsFJfyec0vrMPCrndvzc-i4AYMpzUc3P8oORjU0PexZCMz-1T5bP-ViESweUQr0E", "raw": "BCkla284TZoHncwPlTr7UKHtq0rGcMq7HlBy_WmyLcH1ocfXJeO4Z2lghJKBfOs230rBSX8nnNL6zDwq53b83PouAGDKc1HNz_KDkY1ND3sWQjM_tU-Wz_lYhEsHlEK9BA", "x": "KSVrbzhNmgedzA-VOvtQoe2rSsZwyrseUHL9abItwfWhx9cl47hnaWCEkoF86zbf", "y": "SsFJfyec0vrMPCrndvzc-i4AYMpzUc3P8oORjU0PexZCMz-1T5bP-ViESweUQr0E", "d": "XEp6X_PrHi6B7s--5fCSp6OQyckvmNXx-_vjEneFyg6HQjlU3xYrK7PYLWXGzu5C", "other": "BI9Q81Crqn9-exr1Loacgp57BHUn1P6o4vpCgRK4ruroKr0TiWIWA1yStm0cLdSwRL7QbAEHhxRS7FejcEjCghpN5l9N2WgUGkPfnWOOLQzEJFgvdgLmJA3s2n8YH9fJ_A", "shared": "d3676f63a6334062306d5302bc1615ba93d4c43ca00f6e333df7840c7515c663b1d7a1799c251936fa25b1f93d82f077", "SHA-1": "Zg8wMrcP8jptHIphiC-S6SB0rAyYYic63ixjDxbNeUFDIqg8xLUj3I9TfRoM3bBsVvQkURUP3CbA7lSGqnTbjh08tulPPKvg-ofhjO-CdKk_Kqj_MisK1_G44Iuj5SDI", "SHA-256": "sf_nK4_d12MHe-5GwvElDS1SUjt0DxOPlsKno23AWHu5MSL0Zm2YyiEDA0OjylQVLljzvKkdvn7H4CA5Fu5xnKnLFAOCqm5YixbqN1X-S57KzsvtzDw6mgq_6k48i56Y", "SHA-384": "MlDLilkj7CZ3UXT_5IzgbDHG7MVi1JFAQRJyAY4jJO7QSUX7P7r51m7BZ43o64NlNumItWWPsDjBLFvXVLGMyV7YNhFY5XQxcPPu-QX6Ay-UpY9FaKtNYk6hzivIAsue", "SHA-512": "ATrnWVLhiqYT6MONe9ji3KVSfinI4V25aY19Xo2MHDETBVB8xw6d74FGTd9NFvbF1jG3MwwV0b9oVxF8d4QEpkyt6DiyhIOl2o71srX5Gq6N_gxqx0xki4CMHtyj8kYQ"},
  "P-521": {"pkcs8": "MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAUv5KEfK6H-Z91QmqGj5Klc94QZdXmBK7z3HmL3cSjCYQIB5GK-Km76Cvz8ADiwbl7OF5u9MnQTII4WyT0r9DOjGhgYkDgYYABAHo8dQ3jupOn0cbWMUoTq5D8qRZz2ocQpkqv5XrOfNZVDbM_C3m_3JQF0DwkT6-Inde78VuG1W6OYlTgNtghrsZ5wC_qHlcCkW7uQIJtiTijMhBjREXqGh45lk2dRQ-6WpduHorx84QHnYHYwGfXl6Zr3XWAFUO_vKaQeTsRrwrIdwpiw", "spki": "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB6PHUN47qTp9HG1jFKE6uQ_KkWc9qHEKZKr-V6znzWVQ2zPwt5v9yUBdA8JE-viJ3Xu_FbhtVujmJU4DbYIa7GecAv6h5XApFu7kCCbYk4ozIQY0RF6hoeOZZNnUUPulqXbh6K8fOEB52B2MBn15ema911gBVDv7ymkHk7Ea8KyHcKYs", "raw": "BAHo8dQ3jupOn0cbWMUoTq5D8qRZz2ocQpkqv5XrOfNZVDbM_C3m_3JQF0DwkT6-Inde78VuG1W6OYlTgNtghrsZ5wC_qHlcCkW7uQIJtiTijMhBjREXqGh45lk2dRQ-6WpduHorx84QHnYHYwGfXl6Zr3XWAFUO_vKaQeTsRrwrIdwpiw", "x": "Aejx1DeO6k6fRxtYxShOrkPypFnPahxCmSq_les581lUNsz8Leb_clAXQPCRPr4id17vxW4bVbo5iVOA22CGuxnn", "y": "AL-oeVwKRbu5Agm2JOKMyEGNEReoaHjmWTZ1FD7pal24eivHzhAedgdjAZ9eXpmvddYAVQ7-8ppB5OxGvCsh3CmL", "d": "AFL-ShHyuh_mfdUJqho-SpXPeEGXV5gSu89x5i93EowmECAeRivipu-gr8_AA4sG5ezhebvTJ0EyCOFsk9K_Qzox", "other": "BAAHVbXdVhw0WhcdI6oIjoFhBKly9rs5pGbdX7iiOI5EY1Dln1wLo2UyVicXAYHqRRoh8SI4HRnLFqMJcjD3KB9iuwBgrh1wx7m8xiBiwP4DZcYn-IANdkdHxdBJ3yjbQ-3d7Hi3V5-hLbfpeOD-bjDeeL3olNbeghxJtzxKzRK1y74E5w", "shared": "015d29f8821ea43413f018a7d918f20a02615926b7abd6e0c7a7a9b748c1af5e057092e439818cc7eee80ddd3a5b9f372d20e78c761b456a2e05f6cce5e9084f4f77", "SHA-1": "AGsLb6JEFxmFEYHJlFEbnH9l0R9RsLiKXYSYKjyNML9dzhOWkJoBjVfRpdCr9BIG3Fwpg1Jzg4NMdBKk-V0dMx8fAf37wYWvAjV4IAtuHgEr6rQAIJGQqPU8uRHoB_PFjkJqTPdGuUQ3lih4YYFSpmLTeiWz4qdDhyUEJ50QSgKuVFsh", "SHA-256": "ATiwmV-PmdRZzFtEFcD2ghnQdU4mWhk-vWgQYiqMOiVzjTrE3dY0sm0SvNR1W44JXgjTztofKfLqwUMgu0K1B9RzASs2MAEsK-9UJk7Di14MdYJs96QN0AOK6vGphAXwDR4nB1qyqIfQ2e6WiETmN_xdGuicufhUa6Oyr8YX3LvQBgMn", "SHA-384": "AG9oKmKJwoA_wvKkdcj6GIi5QynsvhsQuuTCBfktEOVJShD0wIlK4rQR1XpUrG3kJQZRRXsqqZY36zVqwcnXDsHSAPCvIXVafo3TSe63FUSjZh1BCdAhPehGJXKbBubv2JuPrYVe-pDvUHnQu9eP9aUxjEhnyk7Xc7lwa2FGudPIot73", "SHA-512": "AE_hRRrgTW5XzJBjLnRDP_3HXthCTUtD-DB8zqG6ihaBhQBI2Df6Jn_XiGTbtke49pmb-uZss1u5TrIzrdNjPc1dADJgjfl1Ls_CCnGLw9Qqp0RRYJUFyC5_-6JQkZW25sWWUg355vcYfpnEHdkPG_JuFzLUem7Km7kXOjjfaJ5wSTZw"},
  "Ed25519": {"pkcs8": "MC4CAQAwBQYDK2VwBCIEIPBHgTCDMvn0MaDjzIOOMffN04g9UdFEEOl1VHYEItjj", "spki": "MCowBQYDK2VwAyEAGTMR74SqWr91xTRlT6I8uJ95ldJeWjBvTLEC2rNKztU", "raw": "GTMR74SqWr91xTRlT6I8uJ95ldJeWjBvTLEC2rNKztU", "signature": "iL80B8hajGj2wq4R8YN3Ib6oTvWXeXnsjAfjcPkmrELpkJlaUcyVreyowhtny40pwnGWQnEOUfNMKxCkGBY2Aw"},
  "X25519": {"pkcs8": "MC4CAQAwBQYDK2VuBCIEILDc_x-ZRrjJoZducfB7USs2dLsdMZ9QzGPwIHKaDwht", "spki": "MCowBQYDK2VuAyEAvDoUasTQHZ_5XlzcC0xQVWFJYLFlixh-lqpYwkN84UQ", "raw": "vDoUasTQHZ_5XlzcC0xQVWFJYLFlixh-lqpYwkN84UQ", "other": "StWXyGfQ_HdzFAe6xi6s5Aljw4GCE37ttupjhjJ26kQ", "shared": "5ae16cb26e825177ac1cc4e7a79b7e4556deb6fdd5fe7de488d716519b8af43e"},
};
const subtle = crypto.subtle;
const message = bytes('The quick brown fox jumps over the lazy dog');
const hashes = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];
const curves = ['P-256', 'P-384', 'P-521'];
const rsaKey = (format, name, hash, usages) => subtle.importKey(format, unb64(rsa[`rsa ${format}`]), { name, hash }, true, usages);

test('RSA: signatures', async () => {
  for (const hash of hashes) {
    const pair = { sign: await rsaKey('pkcs8', 'RSASSA-PKCS1-v1_5', hash, ['sign']), verify: await rsaKey('spki', 'RSASSA-PKCS1-v1_5', hash, ['verify']) };
    equal(b64(await subtle.sign('RSASSA-PKCS1-v1_5', pair.sign, message)), rsa[`pkcs1 ${hash}`], hash);
    equal([await subtle.verify('RSASSA-PKCS1-v1_5', pair.verify, unb64(rsa[`pkcs1 ${hash}`]), message), await subtle.verify('RSASSA-PKCS1-v1_5', pair.verify, unb64(rsa[`pkcs1 ${hash}`]), seq(3))], [true, false], hash);
    const pss = { sign: await rsaKey('pkcs8', 'RSA-PSS', hash, ['sign']), verify: await rsaKey('spki', 'RSA-PSS', hash, ['verify']) };
    const own = await subtle.sign({ name: 'RSA-PSS', saltLength: 32 }, pss.sign, message);
    const right = (saltLength, signature) => subtle.verify({ name: 'RSA-PSS', saltLength }, pss.verify, signature, message);
    equal([await right(20, unb64(rsa[`pss ${hash}`])), await right(32, own), await right(20, own), await right(32, own.slice(1))], [true, true, false, false], hash);
  }
});
test('RSA: encryption', async () => {
  for (const hash of hashes) {
    const secret = await rsaKey('pkcs8', 'RSA-OAEP', hash, ['decrypt']);
    const open = await rsaKey('spki', 'RSA-OAEP', hash, ['encrypt']);
    const algorithm = { name: 'RSA-OAEP', label: bytes('label') };
    equal(text(await subtle.decrypt(algorithm, secret, unb64(rsa[`oaep ${hash}`]))), text(message), hash);
    const sealed = await subtle.encrypt('RSA-OAEP', open, message);
    equal(text(await subtle.decrypt('RSA-OAEP', secret, sealed)), text(message), hash);
    for (const [other, data] of [[algorithm, sealed], ['RSA-OAEP', unb64(rsa[`oaep ${hash}`])], ['RSA-OAEP', seq(12)]])
      await rejects(subtle.decrypt(other, secret, data), 'OperationError: RSA-OAEP failed encrypt/decrypt.');
    await rejects(subtle.encrypt('RSA-OAEP', open, seq(250)), 'OperationError: RSA-OAEP failed encrypt/decrypt.');
  }
});
test('RSA: a key in its forms', async () => {
  const secret = await rsaKey('pkcs8', 'RSA-PSS', 'SHA-256', ['sign']);
  const open = await rsaKey('spki', 'RSA-PSS', 'SHA-256', ['verify']);
  equal([b64(await subtle.exportKey('pkcs8', secret)), b64(await subtle.exportKey('spki', open))], [rsa['rsa pkcs8'], rsa['rsa spki']]);
  const { key_ops, alg, ext, ...numbers } = await subtle.exportKey('jwk', secret);
  const sorted = (object) => Object.entries(object).sort();
  equal([key_ops, alg, ext, sorted(numbers)], [['sign'], 'PS256', true, sorted(rsa['rsa jwk'])]);
  const { kty, n, e, d } = rsa['rsa jwk'];
  for (const jwk of [rsa['rsa jwk'], { kty, n, e, d }]) {
    const again = await subtle.importKey('jwk', jwk, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, true, ['sign']);
    equal(b64(await subtle.sign('RSASSA-PKCS1-v1_5', again, message)), rsa['pkcs1 SHA-256']);
  }
  const half = await subtle.importKey('jwk', { kty, n, e }, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, true, ['verify']);
  equal([b64(await subtle.exportKey('spki', half)), half.type, half.algorithm], [rsa['rsa spki'], 'public', { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: { name: 'SHA-256' } }]);
});
test('RSA: a key that is made', async () => {
  for (const exponent of [[1, 0, 1], [3]]) {
    const { publicKey, privateKey } = await subtle.generateKey({ name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 1024, publicExponent: new Uint8Array(exponent) }, false, ['sign', 'verify']);
    const signature = await subtle.sign({ name: 'RSA-PSS', saltLength: 32 }, privateKey, message);
    equal([signature.byteLength, await subtle.verify({ name: 'RSA-PSS', saltLength: 32 }, publicKey, signature, message), publicKey.usages, privateKey.usages, publicKey.extractable, privateKey.extractable, [...publicKey.algorithm.publicExponent]], [128, true, ['verify'], ['sign'], true, false, exponent]);
    const jwk = await subtle.exportKey('jwk', publicKey);
    equal(unb64(jwk.n)[0] >> 7, 1);
  }
});
test('ECDSA and ECDH', async () => {
  for (const namedCurve of curves) {
    const known = pairs[namedCurve];
    const algorithm = { name: 'ECDSA', namedCurve };
    const secret = await subtle.importKey('pkcs8', unb64(known.pkcs8), algorithm, true, ['sign']);
    const open = await subtle.importKey('raw', unb64(known.raw), algorithm, true, ['verify']);
    for (const hash of hashes) {
      const right = (signature, data = message) => subtle.verify({ name: 'ECDSA', hash }, open, signature, data);
      const own = await subtle.sign({ name: 'ECDSA', hash }, secret, message);
      equal([await right(unb64(known[hash])), await right(own), await right(own, seq(3)), await right(own.slice(1)), await right(new Uint8Array(own.byteLength))], [true, true, false, false, false], `${namedCurve} ${hash}`);
    }
    const agreeing = { name: 'ECDH', namedCurve };
    const half = await subtle.importKey('pkcs8', unb64(known.pkcs8), agreeing, false, ['deriveBits']);
    const other = await subtle.importKey('raw', unb64(known.other), agreeing, false, []);
    const shared = await subtle.deriveBits({ name: 'ECDH', public: other }, half);
    const some = new Uint8Array(await subtle.deriveBits({ name: 'ECDH', public: other }, half, 13));
    equal([hex(shared), some.length, hex(some.slice(0, 1)), some[1] & 7, some[1] >> 3], [known.shared, 2, known.shared.slice(0, 2), 0, unhex(known.shared)[1] >> 3], namedCurve);
  }
});
test('keys on curves in their forms', async () => {
  for (const namedCurve of curves) {
    const known = pairs[namedCurve];
    const algorithm = { name: 'ECDSA', namedCurve };
    const secret = await subtle.importKey('jwk', { kty: 'EC', crv: namedCurve, x: known.x, y: known.y, d: known.d }, algorithm, true, ['sign']);
    const open = await subtle.importKey('spki', unb64(known.spki), algorithm, true, ['verify']);
    equal([b64(await subtle.exportKey('pkcs8', secret)), b64(await subtle.exportKey('raw', open)), b64(await subtle.exportKey('spki', open))], [known.pkcs8, known.raw, known.spki], namedCurve);
    equal(await subtle.exportKey('jwk', secret), { kty: 'EC', key_ops: ['sign'], ext: true, crv: namedCurve, x: known.x, y: known.y, d: known.d });
    const point = unb64(known.raw);
    const compressed = new Uint8Array([2 + (point[point.length - 1] & 1), ...point.slice(1, (point.length + 1) / 2)]);
    equal(b64(await subtle.exportKey('raw', await subtle.importKey('raw', compressed, algorithm, true, ['verify']))), known.raw);
    const made = await subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const jwk = await subtle.exportKey('jwk', made.privateKey);
    equal([made.publicKey.usages, made.privateKey.usages, unb64(jwk.d).length], [['verify'], ['sign'], (point.length - 1) / 2]);
    const signature = await subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, made.privateKey, message);
    equal(await subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, made.publicKey, signature, message), true);
  }
});
test('Ed25519 and X25519', async () => {
  const ed = pairs.Ed25519;
  const secret = await subtle.importKey('pkcs8', unb64(ed.pkcs8), 'Ed25519', true, ['sign']);
  const open = await subtle.importKey('raw', unb64(ed.raw), 'Ed25519', true, ['verify']);
  const wrong = unb64(ed.signature);
  wrong[0] ^= 1;
  equal([b64(await subtle.sign('Ed25519', secret, message)), await subtle.verify('Ed25519', open, unb64(ed.signature), message), await subtle.verify('Ed25519', open, wrong, message)], [ed.signature, true, false]);
  equal([b64(await subtle.exportKey('pkcs8', secret)), b64(await subtle.exportKey('spki', open))], [ed.pkcs8, ed.spki]);
  const jwk = await subtle.exportKey('jwk', secret);
  equal([Object.keys(jwk), jwk.alg, jwk.x], [['kty', 'key_ops', 'alg', 'ext', 'crv', 'x', 'd'], 'EdDSA', ed.raw]);
  equal(b64(await subtle.sign('ed25519', await subtle.importKey('jwk', jwk, 'Ed25519', false, ['sign']), message)), ed.signature);
  const x = pairs.X25519;
  const half = await subtle.importKey('pkcs8', unb64(x.pkcs8), 'X25519', true, ['deriveBits', 'deriveKey']);
  const other = await subtle.importKey('raw', unb64(x.other), 'X25519', true, []);
  equal([hex(await subtle.deriveBits({ name: 'X25519', public: other }, half, 256)), b64(await subtle.exportKey('pkcs8', half)), (await subtle.exportKey('jwk', half)).x], [x.shared, x.pkcs8, x.raw]);
  const derived = await subtle.deriveKey({ name: 'X25519', public: other }, half, { name: 'AES-KW', length: 128 }, true, ['wrapKey']);
  equal(hex(await subtle.exportKey('raw', derived)), x.shared.slice(0, 32));
  const nobody = await subtle.importKey('raw', new Uint8Array(32), 'X25519', true, []);
  await rejects(subtle.deriveBits({ name: 'X25519', public: nobody }, half, 256), 'OperationError: Failed to derive EDDH key: public key routines INVALID_PEER_KEY.');
  const made = await subtle.generateKey({ name: 'NODE-ED25519', namedCurve: 'NODE-ED25519' }, true, ['sign', 'verify']);
  equal([made.publicKey.algorithm, await subtle.verify('NODE-ED25519', made.publicKey, await subtle.sign('NODE-ED25519', made.privateKey, message), message)], [{ name: 'NODE-ED25519', namedCurve: 'NODE-ED25519' }, true]);
});
test('keys within keys', async () => {
  const outer = await subtle.importKey('raw', seq(32), 'AES-GCM', false, ['wrapKey', 'unwrapKey', 'decrypt']);
  const sealing = { name: 'AES-GCM', iv: seq(12) };
  const secret = await rsaKey('pkcs8', 'RSA-PSS', 'SHA-256', ['sign']);
  for (const format of ['pkcs8', 'jwk']) {
    const wrapped = await subtle.wrapKey(format, secret, outer, sealing);
    const back = await subtle.unwrapKey(format, wrapped, outer, sealing, { name: 'RSA-PSS', hash: 'SHA-256' }, true, ['sign']);
    equal(b64(await subtle.exportKey('pkcs8', back)), rsa['rsa pkcs8'], format);
  }
  const json = JSON.parse(text(await subtle.decrypt(sealing, outer, await subtle.wrapKey('jwk', secret, outer, sealing))));
  equal(json, await subtle.exportKey('jwk', secret));
  const inner = await subtle.importKey('raw', seq(16), 'AES-CBC', true, ['encrypt']);
  const wrapping = await rsaKey('spki', 'RSA-OAEP', 'SHA-1', ['wrapKey']);
  const unwrapping = await rsaKey('pkcs8', 'RSA-OAEP', 'SHA-1', ['unwrapKey']);
  const back = await subtle.unwrapKey('raw', await subtle.wrapKey('raw', inner, wrapping, 'RSA-OAEP'), unwrapping, 'RSA-OAEP', 'AES-CTR', true, ['encrypt']);
  equal([hex(await subtle.exportKey('raw', back)), back.algorithm.name], [hex(seq(16)), 'AES-CTR']);
});
